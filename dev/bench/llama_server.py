"""xllamacpp's own HTTP server: `python -m dev.bench.llama_server MODEL PORT SLOTS CONTEXT THREADS`."""

import signal
import sys

from xllamacpp import CommonParams, Server


def main() -> None:
    model, port, slots, context, threads = sys.argv[1:]
    params = CommonParams()
    params.model.path = model
    params.port = int(port)
    params.n_parallel = int(slots)
    params.n_ctx = int(context)
    params.kv_unified = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
    server = Server(params)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    del server


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
