#define EQUIPOISE_LEVEL shared
#include "parallel.h"

#include "interface.h"

static equipoise_parallel_for pool = nullptr;

// The pool: the address of libtorch's C function `torch_parallel_for`; null runs everything in the calling thread.
EQUIPOISE_EXPORT void equipoise_set_parallel_for(void* address) {
    pool = reinterpret_cast<equipoise_parallel_for>(address);
}

void equipoise_run_chunks(int64_t chunks, equipoise_chunk_body body, void* context) {
    if (chunks > 1 && pool)
        pool(0, chunks, 1, body, context);
    else
        body(0, chunks, context);
}
