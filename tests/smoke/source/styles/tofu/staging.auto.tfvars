dixie_tag = "stable"
