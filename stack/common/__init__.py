"""What every service of the embedded platform shares: settings, database, keys, tokens, errors, prices."""
