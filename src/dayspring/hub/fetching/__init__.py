"""Bytes on their way in: the network, parts of files, archives, resumed downloads, and putting files together."""
