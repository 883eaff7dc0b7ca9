/* Remote read requests: any bytes are parsed or refused, within the arena. */
#include <stddef.h>
#include <stdint.h>

#include "querier/read_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qr_read_request q;
    struct kl_arena        arena;
    struct kl_err          err;

    kl_arena_init(&arena, 1 << 20);
    (void)qr_read_parse(kl_span(data, size), &arena, &q, &err);
    kl_arena_deinit(&arena);
    return 0;
}
