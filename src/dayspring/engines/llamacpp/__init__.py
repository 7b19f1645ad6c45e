"""GGUF models on llama.cpp, in a worker process: chat, completion and embedding."""
