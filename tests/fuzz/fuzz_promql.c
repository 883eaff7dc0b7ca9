/* Any bytes as a query: parsed, checked, printed as text and as a tree, or refused with words. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "libpromql/pql.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_span           text = kl_span(data, size);
    struct kl_buf            out;
    struct kl_err            err;
    struct kl_arena          arena;
    const struct kl_matcher *matchers;
    size_t                   count;

    kl_buf_init(&out, 1 << 20);
    if (pql_tree_json(text, &out, &err) == KL_EINVAL && err.text[0] == '\0')
        abort();                                       /* a refusal has words */
    kl_buf_deinit(&out);
    kl_arena_init(&arena, 1 << 20);
    if (pql_selector(text, &arena, &matchers, &count, &err) == KL_OK)
        pql_selector_free(matchers, count);
    kl_arena_deinit(&arena);
    return 0;
}
