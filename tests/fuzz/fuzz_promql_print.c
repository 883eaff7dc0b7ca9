/* What is parsed and printed is parsed again to the same tree; printing that gives the same text. Only
 * matchers may change places, for they are printed in order: trees are compared by their bytes' counts. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "libpromql/pql.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_equal(const char *what, struct kl_span a, struct kl_span b)
{
    if (kl_span_eq(a, b))
        return;
    fprintf(stderr, "%s differs:\n%.*s\n%.*s\n", what, (int)a.size, (const char *)a.at, (int)b.size,
            (const char *)b.at);
    abort();
}

static void must_hold_the_same(struct kl_span a, struct kl_span b)
{
    size_t counts[256] = { 0 };

    for (size_t i = 0; i < a.size; i++)
        counts[((const uint8_t *)a.at)[i]]++;
    for (size_t i = 0; i < b.size; i++)
        counts[((const uint8_t *)b.at)[i]]--;
    for (size_t i = 0; i < 256; i++)
        if (counts[i] != 0)
            must_equal("tree", a, b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_span text = kl_span(data, size);
    struct kl_buf  first, second, again, tree;
    struct kl_err  err;

    /* "+Inf ^ 2" is read as +(Inf ^ 2): Prometheus prints the sign all the same. And it prints
     * "offset +(5m)" without the sign, though what follows then belongs to the offset. */
    for (size_t i = 0; i + 3 <= size; i++)
        if (strncasecmp((const char *)data + i, "inf", 3) == 0)
            return 0;
    for (size_t i = 0, k; i + 7 <= size; i++)
        if (strncasecmp((const char *)data + i, "offset", 6) == 0) {
            for (k = i + 6; k < size && (data[k] == ' ' || data[k] == '\n' || data[k] == '\r'
                                         || data[k] == '\t' || data[k] == '#'); k++)
                ;
            if (k < size && data[k] == '+')
                return 0;
        }
    kl_buf_init(&first, 1 << 20);
    kl_buf_init(&second, 1 << 20);
    kl_buf_init(&tree, 1 << 22);
    kl_buf_init(&again, 1 << 22);
    if (pql_format(text, &first, &err) != KL_OK || pql_tree_json(text, &tree, &err) != KL_OK)
        goto done;
    if (pql_format(kl_buf_span(&first), &second, &err) != KL_OK) {
        fprintf(stderr, "printed, but not read back: %s\n%.*s\n", err.text, (int)first.size, first.at);
        abort();
    }
    must_equal("text", kl_buf_span(&first), kl_buf_span(&second));
    if (pql_tree_json(kl_buf_span(&first), &again, &err) == KL_OK)
        must_hold_the_same(kl_buf_span(&tree), kl_buf_span(&again));
done:
    kl_buf_deinit(&first);
    kl_buf_deinit(&second);
    kl_buf_deinit(&tree);
    kl_buf_deinit(&again);
    return 0;
}
