"""What a model file is, told from its header and never by loading it. One module for each format."""
