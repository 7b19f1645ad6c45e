"""Where models come from: each module turns an address into the files to have, before any big download."""
