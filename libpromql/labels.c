/* Label sets derived from others, and numbering them. A set is canonical bytes sorted by name, so a
 * subset is made by copying the pairs that stay. */
#include <string.h>

#include "libpromql/eval_priv.h"

static bool listed(struct pql_names names, struct kl_span name)
{
    for (uint32_t i = 0; i < names.count; i++)
        if (kl_span_eq(names.at[i], name))
            return true;
    return false;
}

/* Copies the pairs whose names are listed (keep) or not (drop); `to` has room for all of `l`. */
static size_t select_pairs(uint8_t *to, struct kl_labels l, struct pql_names names, bool keep)
{
    struct kl_cur   c = kl_labels_cur(l);
    struct kl_label x;
    const uint8_t  *pair = c.at;
    size_t          n = 0;

    while (kl_labels_next(&c, &x)) {
        if (listed(names, x.name) == keep) {
            memcpy(to + n, pair, (size_t)(c.at - pair));
            n += (size_t)(c.at - pair);
        }
        pair = c.at;
    }
    return n;
}

static struct kl_labels subset(struct pql_op *op, unsigned worker, struct kl_labels l,
                               struct pql_names names, bool keep)
{
    struct kl_labels out = { .at = NULL, .size = 0 };
    uint8_t         *to;

    if (l.size == 0 || (names.count == 0 && keep))
        return out;
    to = pql_label_alloc(op->q, worker, l.size);
    if (to != NULL) {
        out.at = to;
        out.size = select_pairs(to, l, names, keep);
    }
    return out;
}

struct kl_labels pql_labels_keep(struct pql_op *op, unsigned worker, struct kl_labels l,
                                 struct pql_names names)
{
    return subset(op, worker, l, names, true);
}

struct kl_labels pql_labels_drop(struct pql_op *op, unsigned worker, struct kl_labels l,
                                 struct pql_names names)
{
    return names.count == 0 ? l : subset(op, worker, l, names, false);
}

struct kl_labels pql_labels_bare(struct pql_op *op, unsigned worker, struct kl_labels l)
{
    struct kl_span   reserved[3] = { kl_span_str("__name__"), kl_span_str("__type__"),
                                     kl_span_str("__unit__") };
    struct pql_names names = { 3, reserved };
    struct kl_cur    c = kl_labels_cur(l);
    struct kl_label  x;

    while (kl_labels_next(&c, &x))
        if (listed(names, x.name))
            return subset(op, worker, l, names, false);
    return l;
}

static size_t put_varint(uint8_t *to, size_t v)
{
    size_t n = 0;

    for (; v >= 0x80; v >>= 7)
        to[n++] = (uint8_t)(v | 0x80);
    to[n++] = (uint8_t)v;
    return n;
}

static size_t put_pair(uint8_t *to, struct kl_span name, struct kl_span value)
{
    size_t n = put_varint(to, name.size);

    memcpy(to + n, name.at, name.size);
    n += name.size;
    n += put_varint(to + n, value.size);
    memcpy(to + n, value.at, value.size);
    return n + value.size;
}

struct kl_labels pql_labels_set(struct pql_op *op, unsigned worker, struct kl_labels l,
                                struct kl_span name, struct kl_span value)
{
    struct kl_cur   c = kl_labels_cur(l);
    struct kl_label x;
    const uint8_t  *pair = c.at;
    size_t          n = 0, room = l.size + name.size + value.size + 20;
    bool            put = value.size == 0;
    uint8_t        *to;

    if (room > 4 * KL_LABELS_BYTES_MAX) {
        pql_fail(op->q, PQL_EXECUTION, "label set of more than %d bytes", 4 * KL_LABELS_BYTES_MAX);
        return l;
    }
    to = pql_label_alloc(op->q, worker, room);
    if (to == NULL)
        return l;
    while (kl_labels_next(&c, &x)) {
        int order = kl_span_cmp(x.name, name);
        if (!put && order >= 0) {
            n += put_pair(to + n, name, value);
            put = true;
        }
        if (order != 0) {
            memcpy(to + n, pair, (size_t)(c.at - pair));
            n += (size_t)(c.at - pair);
        }
        pair = c.at;
    }
    if (!put)
        n += put_pair(to + n, name, value);
    return (struct kl_labels){ .at = to, .size = n };
}

struct kl_span pql_metric_name(struct kl_labels l)
{
    return kl_labels_get(l, kl_span_str("__name__"));
}

/* As Prometheus writes a label set: name{a="b"} is not used, all labels stand inside the braces. */
void pql_labels_text(struct kl_buf *out, struct kl_labels l)
{
    struct kl_cur   c = kl_labels_cur(l);
    struct kl_label x;
    bool            first = true;

    kl_buf_add8(out, '{');
    while (kl_labels_next(&c, &x)) {
        if (!first)
            kl_buf_adds(out, ", ");
        first = false;
        if (pql_legacy_name(x.name))
            kl_buf_add(out, x.name.at, x.name.size);
        else
            pql_quote(out, x.name);
        kl_buf_add8(out, '=');
        pql_quote(out, x.value);
    }
    kl_buf_add8(out, '}');
}

/* ---- numbering ---- */

bool pql_index_new(struct pql_op *op, struct pql_index *x, uint32_t expect)
{
    uint32_t slots = 16;

    while (slots < expect * 2 && slots < 1u << 30)
        slots *= 2;
    *x = (struct pql_index){ .mask = slots - 1, .room = expect > 8 ? expect : 8 };
    x->slots = pql_alloc(op, 0, slots * sizeof *x->slots);
    x->keys = x->slots != NULL ? pql_alloc(op, 0, x->room * sizeof *x->keys) : NULL;
    if (x->keys == NULL)
        return false;
    memset(x->slots, 0xFF, slots * sizeof *x->slots);
    return true;
}

/* The slot of `key`: filled with its number, or empty (UINT32_MAX). */
static uint32_t *find_slot(const struct pql_index *x, struct kl_labels key)
{
    uint32_t i = (uint32_t)kl_hash64(key.at, key.size) & x->mask;

    while (x->slots[i] != UINT32_MAX && !pql_labels_eq(x->keys[x->slots[i]], key))
        i = (i + 1) & x->mask;
    return &x->slots[i];
}

uint32_t pql_index_find(const struct pql_index *x, struct kl_labels key)
{
    return *find_slot(x, key);
}

uint32_t pql_index_put(struct pql_op *op, struct pql_index *x, struct kl_labels key)
{
    uint32_t *slot = find_slot(x, key);

    if (*slot != UINT32_MAX)
        return *slot;
    if (x->count == x->room) {                         /* twice `expect` never comes: but be sure */
        pql_fail(op->q, PQL_INTERNAL, "more label sets than rows");
        return UINT32_MAX;
    }
    x->keys[x->count] = key;
    return *slot = x->count++;
}

uint32_t pql_index_key(struct pql_op *op, struct pql_index *x, struct kl_buf *scratch,
                       struct kl_labels l, struct pql_names names, bool keep)
{
    struct kl_labels key;
    uint32_t        *slot;
    uint8_t         *copy;

    if (!kl_buf_reserve(scratch, l.size + 1))
        return UINT32_MAX;
    key.at = (const uint8_t *)scratch->at;
    key.size = select_pairs((uint8_t *)scratch->at, l, names, keep);
    slot = find_slot(x, key);
    if (*slot != UINT32_MAX)
        return *slot;
    copy = pql_label_alloc(op->q, 0, key.size + 1);
    if (copy == NULL)
        return UINT32_MAX;
    memcpy(copy, key.at, key.size);
    return pql_index_put(op, x, (struct kl_labels){ .at = copy, .size = key.size });
}
