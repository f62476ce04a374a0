finn_tag = "8d1f0aa"
dixie_tag = "7b2e9c1"
