#include "libkoal/base/labels.h"

#include <stdlib.h>

struct kl_cur kl_labels_cur(struct kl_labels l) { return kl_cur(l.at, l.size); }

bool kl_labels_next(struct kl_cur *c, struct kl_label *label)
{
    if (c->at == c->end)
        return false;
    label->name = kl_cur_span(c);
    label->value = kl_cur_span(c);
    return !c->bad;
}

struct kl_span kl_labels_get(struct kl_labels l, struct kl_span name)
{
    struct kl_cur   c = kl_labels_cur(l);
    struct kl_label x;

    while (kl_labels_next(&c, &x)) {
        int order = kl_span_cmp(x.name, name);
        if (order == 0)
            return x.value;
        if (order > 0)
            break;
    }
    return kl_span("", 0);
}

size_t kl_labels_count(struct kl_labels l)
{
    struct kl_cur   c = kl_labels_cur(l);
    struct kl_label x;
    size_t          n = 0;

    while (kl_labels_next(&c, &x))
        n++;
    return n;
}

enum kl_code kl_labels_check(struct kl_labels l, struct kl_err *err)
{
    struct kl_cur   c = kl_labels_cur(l);
    struct kl_label x;
    struct kl_span  last = { 0 };
    size_t          n = 0;

    if (l.size > KL_LABELS_BYTES_MAX)
        return kl_fail(err, KL_ELIMIT, "a label set of %zu bytes: at most %d", l.size,
                       KL_LABELS_BYTES_MAX);
    while (kl_labels_next(&c, &x)) {
        if (++n > KL_LABELS_MAX)
            return kl_fail(err, KL_ELIMIT, "more than %d labels", KL_LABELS_MAX);
        if (x.name.size == 0 || x.value.size == 0)
            return kl_fail(err, KL_EINVAL, "a label with an empty name or value");
        if (n > 1 && kl_span_cmp(last, x.name) >= 0)
            return kl_fail(err, KL_EINVAL, "label names out of order, or twice");
        if (!kl_utf8_ok(x.name) || !kl_utf8_ok(x.value))
            return kl_fail(err, KL_EINVAL, "a label that is not UTF-8");
        last = x.name;
    }
    return c.bad ? kl_fail(err, KL_EINVAL, "a label set that is cut short") : KL_OK;
}

struct kl_fp kl_labels_fp(struct kl_labels l) { return kl_hash128(l.at, l.size); }

/* How many bytes are the same at the front. */
static size_t common_prefix(const uint8_t *a, const uint8_t *b, size_t size)
{
    size_t   at = 0;
    uint64_t x, y;

    for (; at + 8 <= size; at += 8) {
        memcpy(&x, a + at, 8);
        memcpy(&y, b + at, 8);
        if (x != y)
            return at + (size_t)(__builtin_ctzll(x ^ y) / 8);      /* little-endian */
    }
    while (at < size && a[at] == b[at])
        at++;
    return at;
}

/* Sorting thousands of series compares little else, and most share all but one value: the first
 * byte that differs is found eight at a time, then only the field that holds it is looked at. */
int kl_labels_cmp(struct kl_labels a, struct kl_labels b)
{
    size_t        shorter = a.size < b.size ? a.size : b.size, at = 0;
    size_t        differs = common_prefix(a.at, b.at, shorter);
    struct kl_cur x, y;
    int           order;

    if (differs == shorter)
        return (a.size > b.size) - (a.size < b.size);
    while (at < differs) {
        uint64_t size;

        x = kl_cur(a.at + at, a.size - at);
        size = a.at[at] < 0x80 ? *x.at++ : kl_cur_v(&x);
        if ((size_t)(x.at - a.at) > differs)
            break;                                     /* their lengths differ */
        if (size > differs - (size_t)(x.at - a.at))
            return a.at[differs] < b.at[differs] ? -1 : 1;
        at = (size_t)(x.at - a.at) + size;
    }
    x = kl_cur(a.at + at, a.size - at);
    y = kl_cur(b.at + at, b.size - at);
    order = kl_span_cmp(kl_cur_span(&x), kl_cur_span(&y));
    return order != 0 ? order : a.at[differs] < b.at[differs] ? -1 : 1;
}

void kl_labels_start(struct kl_labels_builder *b) { b->count = 0; }

enum kl_code kl_labels_add(struct kl_labels_builder *b, struct kl_span name, struct kl_span value,
                           struct kl_err *err)
{
    if (b->count == KL_LABELS_MAX)
        return kl_fail(err, KL_ELIMIT, "more than %d labels", KL_LABELS_MAX);
    b->pairs[b->count++] = (struct kl_label){ .name = name, .value = value };
    return KL_OK;
}

static int by_name(const void *a, const void *b)
{
    return kl_span_cmp(((const struct kl_label *)a)->name, ((const struct kl_label *)b)->name);
}

static bool sorted(const struct kl_labels_builder *b)
{
    for (size_t i = 1; i < b->count; i++)
        if (by_name(&b->pairs[i - 1], &b->pairs[i]) > 0)
            return false;
    return true;
}

enum kl_code kl_labels_finish(struct kl_labels_builder *b, struct kl_buf *out, struct kl_err *err)
{
    size_t begin = out->size;

    if (!sorted(b))
        qsort(b->pairs, b->count, sizeof b->pairs[0], by_name);
    for (size_t i = 0; i < b->count; i++) {
        const struct kl_label *x = &b->pairs[i];
        if (x->name.size == 0) {
            out->size = begin;
            return kl_fail(err, KL_EINVAL, "a label with an empty name");
        }
        if (i > 0 && kl_span_eq(b->pairs[i - 1].name, x->name)) {
            out->size = begin;
            return kl_fail(err, KL_EINVAL, "label \"%.*s\" is given twice",
                           (int)(x->name.size < 100 ? x->name.size : 100), (const char *)x->name.at);
        }
        if (x->value.size == 0)
            continue;
        kl_buf_addspan(out, x->name);
        kl_buf_addspan(out, x->value);
        if (out->size - begin > KL_LABELS_BYTES_MAX || !kl_buf_ok(out)) {
            out->size = begin;
            return kl_fail(err, KL_ELIMIT, "a label set of more than %d bytes", KL_LABELS_BYTES_MAX);
        }
    }
    return KL_OK;
}

/* RFC 3629: no overlong form, no surrogate, nothing past U+10FFFF. */
bool kl_utf8_ok(struct kl_span s)
{
    const uint8_t *at = s.size > 0 ? s.at : (const void *)"", *end = at + s.size;

    while (at < end) {
        uint64_t eight;
        if (end - at >= 8 && (memcpy(&eight, at, 8), (eight & 0x8080808080808080u) == 0)) {
            at += 8;
            continue;
        }
        uint8_t b = *at++;
        if (b < 0x80)
            continue;
        unsigned more = b >= 0xc2 && b <= 0xdf ? 1 : b >= 0xe0 && b <= 0xef ? 2
                      : b >= 0xf0 && b <= 0xf4 ? 3 : 0;
        if (more == 0 || end - at < more)
            return false;
        if ((b == 0xe0 && at[0] < 0xa0) || (b == 0xed && at[0] > 0x9f) ||
            (b == 0xf0 && at[0] < 0x90) || (b == 0xf4 && at[0] > 0x8f))
            return false;
        for (unsigned i = 0; i < more; i++)
            if ((*at++ & 0xc0) != 0x80)
                return false;
    }
    return true;
}
