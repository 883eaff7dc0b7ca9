/* Sorting by fields gives the order of whole comparisons, whatever the sets look like. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/labels.h"
#include "tests/suite.h"

enum { SETS = 3000 };

static struct kl_buf    bytes;
static size_t           begins[SETS + 1];
static struct kl_labels sets[SETS];
static uint32_t         order[SETS];
static uint64_t         seed;

static uint64_t draw(uint64_t below)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed % below;
}

static void add(struct kl_labels_builder *b, const char *name, char *value, size_t size)
{
    struct kl_err err;

    ck_assert_int_eq(kl_labels_add(b, kl_span_str(name), kl_span(value, size), &err), KL_OK);
}

/* kind 0: hosts and modes. 1: few bytes of any kind, NUL among them, labels absent or not.
 * 2: one long front, lengths about 127. 3: each a front of the next. 4: all the same. */
static void make(int kind, size_t count)
{
    static struct kl_labels_builder b;
    static char                     v[4][SETS + 200];
    struct kl_err                   err;

    kl_buf_reset(&bytes);
    for (size_t i = 0; i < count; i++) {
        kl_labels_start(&b);
        begins[i] = bytes.size;
        if (kind == 0) {
            add(&b, "__name__", "node_cpu", 8);
            add(&b, "instance", v[0], (size_t)sprintf(v[0], "host-%u:9100", (unsigned)draw(400)));
            add(&b, "mode", v[1], (size_t)sprintf(v[1], "m%u", (unsigned)draw(40)));
        } else if (kind == 1) {
            static const char *const names[] = { "a", "ab", "b", "c" };

            for (unsigned k = 0; k < 4; k++) {
                size_t n = draw(12);

                for (size_t at = 0; at < n; at++)
                    v[k][at] = (char)draw(3);
                add(&b, names[k], v[k], n);
            }
        } else if (kind == 2) {
            size_t n = 110 + draw(30);

            memset(v[0], 'x', n);
            v[0][n - 1 - draw(20)] = (char)('w' + draw(3));
            add(&b, "a", v[0], n);
        } else if (kind == 3) {
            size_t n = 1 + draw(SETS);

            memset(v[0], 0, n);
            add(&b, "a", v[0], n);
        } else {
            add(&b, "a", "b", 1);
        }
        ck_assert_int_eq(kl_labels_finish(&b, &bytes, &err), KL_OK);
    }
    begins[count] = bytes.size;
    for (size_t i = 0; i < count; i++)
        sets[i] = (struct kl_labels){ (const uint8_t *)bytes.at + begins[i],
                                      begins[i + 1] - begins[i] };
}

START_TEST(any_sets_come_out_in_the_order_of_whole_comparisons)
{
    size_t        count = _i % 2 ? SETS : 1 + (size_t)_i;
    unsigned char seen[SETS] = { 0 };

    seed = 77 + (uint64_t)_i;
    make(_i % 5, count);
    kl_labels_order(sets, order, count);
    for (size_t i = 0; i < count; i++) {
        ck_assert_uint_lt(order[i], count);
        ck_assert_uint_eq(seen[order[i]]++, 0);
        if (i > 0)
            ck_assert_msg(kl_labels_cmp(sets[order[i - 1]], sets[order[i]]) <= 0, "at %zu", i);
    }
    kl_buf_deinit(&bytes);
    bytes = (struct kl_buf){ 0 };
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/labels_order");
    TCase *t = tcase_create("all");

    tcase_add_loop_test(t, any_sets_come_out_in_the_order_of_whole_comparisons, 0, 30);
    suite_add_tcase(s, t);
    return run_suite(s);
}
