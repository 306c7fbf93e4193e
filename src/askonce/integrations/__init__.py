"""Other frameworks on askonce: one package or file each, one extra each."""
