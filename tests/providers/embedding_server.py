"""llama.cpp serving SmolLM2's embeddings; serves until its input ends."""

import sys

import xllamacpp

if __name__ == "__main__":
    settings = xllamacpp.CommonParams()
    settings.model.path = sys.argv[1]
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    settings.n_ctx = 1024
    settings.n_parallel = 2
    settings.cpuparams.n_threads = 1
    settings.embedding = True
    settings.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(settings)
    print(server.listening_address, flush=True)
    sys.stdin.read()
