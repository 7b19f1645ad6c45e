"""Models on vLLM, which the operator installs: each worker starts, watches and ends one `vllm serve`."""
