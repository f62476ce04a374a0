"""The smoke suite of the Freeside, Finn and Dixie platform: one module per phase over shared `clients`."""
