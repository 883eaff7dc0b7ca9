#include "libtsproto/digest.h"

#include "libkoal/base/mem.h"
#include "libkoal/base/sorted.h"
#include "libtsproto/small_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 2, DIGITS = 4 };
enum { CUT_BYTES = 41, SUM_BYTES = 24 };               /* a cut's, before its sums; a sum's */
enum { FLAG_SURE = 1, FLAG_ALL = 2 };
/* More members than any partition has had for long: keys of those that are gone go with them. */
enum { ENTRIES_MAX = 1 << 16 };

void tsp_digest_key(char *key, size_t size, uint32_t partition, const char *member)
{
    snprintf(key, size, TSP_DIGEST_PREFIX "%04" PRIu32 ".%s", partition, member);
}

void tsp_repair_key(char *key, size_t size, uint32_t partition, const char *member)
{
    snprintf(key, size, TSP_REPAIR_PREFIX "%04" PRIu32 ".%s", partition, member);
}

static bool key_of(const char *prefix, const char *key, uint32_t *partition, char member[TSP_NAME_MAX + 1])
{
    const char *digits = key + strlen(prefix), *name = digits + DIGITS + 1;

    if (strncmp(key, prefix, strlen(prefix)) != 0 || strspn(digits, "0123456789") != DIGITS ||
        digits[DIGITS] != '.' || name[0] == '\0' || strlen(name) > TSP_NAME_MAX)
        return false;
    *partition = (uint32_t)strtoul(digits, NULL, 10);
    strcpy(member, name);
    return true;
}

bool tsp_digest_of(const char *key, uint32_t *partition, char member[TSP_NAME_MAX + 1])
{
    return key_of(TSP_DIGEST_PREFIX, key, partition, member);
}

bool tsp_repair_of(const char *key, uint32_t *partition, char member[TSP_NAME_MAX + 1])
{
    return key_of(TSP_REPAIR_PREFIX, key, partition, member);
}

void tsp_digest_encode(const struct tsp_digest *d, struct kl_buf *out)
{
    size_t begin = tsp_small_begin(out, "KD", VERSION, d->count);

    kl_buf_add64(out, d->incarnation);
    for (uint32_t i = 0; i < d->count; i++) {
        const struct tsp_digest_cut *c = &d->cuts[i];

        kl_buf_add64(out, c->seq);
        kl_buf_add64(out, (uint64_t)c->end_ms);
        kl_buf_add64(out, c->log_from);
        kl_buf_add64(out, c->log_hash);
        kl_buf_add64(out, c->after);
        kl_buf_add8(out, (uint8_t)((c->sure ? FLAG_SURE : 0) | (c->all ? FLAG_ALL : 0)));
        for (int k = 0; k < TSP_DIGEST_KINDS; k++) {
            kl_buf_add64(out, c->of[k].count);
            kl_buf_add64(out, c->of[k].hi);
            kl_buf_add64(out, c->of[k].lo);
        }
    }
    tsp_small_end(out, begin);
}

enum kl_code tsp_digest_decode(struct kl_span bytes, struct tsp_digest *d, struct kl_err *err)
{
    struct tsp_digest got = { 0 };
    struct kl_cur     c;
    uint8_t           version = 0;
    int               sums;

    if (tsp_small_open(bytes, "KD", VERSION, "digests of cuts", &c, &version, &got.count, err) != KL_OK)
        return err->code;
    got.incarnation = kl_cur_64(&c);
    sums = version == 1 ? 1 : TSP_DIGEST_KINDS;
    if (c.bad || got.count > TSP_DIGEST_CUTS ||
        kl_cur_left(&c) != got.count * (size_t)(CUT_BYTES + sums * SUM_BYTES))
        return kl_fail(err, KL_ECORRUPT, "digests of %" PRIu32 " cuts in %zu bytes", got.count, bytes.size);
    for (uint32_t i = 0; i < got.count; i++) {
        struct tsp_digest_cut *x = &got.cuts[i];
        uint8_t                flags;

        x->seq = kl_cur_64(&c);
        x->end_ms = (int64_t)kl_cur_64(&c);
        x->log_from = kl_cur_64(&c);
        x->log_hash = kl_cur_64(&c);
        x->after = kl_cur_64(&c);
        flags = kl_cur_8(&c);
        x->sure = (flags & FLAG_SURE) != 0;
        x->all = (flags & FLAG_ALL) != 0;
        for (int k = 0; k < sums; k++) {
            x->of[k].count = kl_cur_64(&c);
            x->of[k].hi = kl_cur_64(&c);
            x->of[k].lo = kl_cur_64(&c);
        }
        if (flags > (version == 1 ? FLAG_SURE : FLAG_SURE | FLAG_ALL) || x->seq == 0 || (i > 0 && x->seq <= got.cuts[i - 1].seq))
            return kl_fail(err, KL_ECORRUPT, "digests of cuts that are out of order");
    }
    *d = got;
    return KL_OK;
}

void tsp_digest_tell(struct tsp_digest *d, const struct tsp_digest_cut *cut)
{
    if (d->count > 0 && d->cuts[d->count - 1].seq >= cut->seq)
        return;
    if (d->count == TSP_DIGEST_CUTS)
        memmove(d->cuts, d->cuts + 1, --d->count * sizeof *d->cuts);
    d->cuts[d->count++] = *cut;
}

/* The first kind of which they have not the same; TSP_DIGEST_KINDS: none, as far as both tell. */
static enum tsp_digest_kind other_kind(const struct tsp_digest_cut *a, const struct tsp_digest_cut *b)
{
    int k = 0, most = a->all && b->all ? TSP_DIGEST_KINDS : TSP_DIGEST_STARTS;

    while (k < most && a->of[k].count == b->of[k].count && a->of[k].hi == b->of[k].hi && a->of[k].lo == b->of[k].lo)
        k++;
    return k < most ? (enum tsp_digest_kind)k : TSP_DIGEST_KINDS;
}

enum tsp_digest_verdict tsp_digest_compare(const struct tsp_digest_cut *a, const struct tsp_digest_cut *b)
{
    bool log = a->log_from != 0 && a->log_from == b->log_from,
         content = a->sure && b->sure && a->after == b->after && a->end_ms == b->end_ms;

    if (a->seq != b->seq)
        return TSP_DIGEST_OPEN;
    if (log && a->log_hash != b->log_hash)
        return TSP_DIGEST_OTHER_LOG;
    if (content && other_kind(a, b) != TSP_DIGEST_KINDS)
        return TSP_DIGEST_OTHER_CONTENT;
    return content ? TSP_DIGEST_SAME : TSP_DIGEST_OPEN;
}

/* ---- all that was told ---- */

struct entry { uint32_t partition; char member[TSP_NAME_MAX + 1]; struct tsp_digest digest; };
struct tsp_digests { struct entry **at; uint32_t count, room; };       /* by partition, then member */

struct tsp_digests *tsp_digests_new(void) { return kl_new(sizeof(struct tsp_digests)); }

void tsp_digests_free(struct tsp_digests *d)
{
    if (d == NULL)
        return;
    for (uint32_t i = 0; i < d->count; i++)
        free(d->at[i]);
    free(d->at);
    free(d);
}

/* Its cut `seq`, or NULL. */
static const struct tsp_digest_cut *cut_of(const struct entry *e, uint64_t seq)
{
    for (uint32_t i = 0; i < e->digest.count; i++)
        if (e->digest.cuts[i].seq == seq)
            return &e->digest.cuts[i];
    return NULL;
}

/* Where it is, or belongs. */
static uint32_t place(const struct tsp_digests *d, uint32_t partition, const char *member)
{
    return KL_FIRST(i, d->count, d->at[i]->partition > partition ||
                    (d->at[i]->partition == partition && strcmp(d->at[i]->member, member) >= 0));
}

static bool is_at(const struct tsp_digests *d, uint32_t at, uint32_t partition, const char *member)
{
    return at < d->count && d->at[at]->partition == partition && strcmp(d->at[at]->member, member) == 0;
}

static void drop(struct tsp_digests *d, uint32_t at)
{
    free(d->at[at]);
    memmove(d->at + at, d->at + at + 1, (--d->count - at) * sizeof(struct entry *));
}

bool tsp_digests_put(struct tsp_digests *d, const char *key, struct kl_span value, uint32_t *partition,
                     struct kl_err *err)
{
    char              member[TSP_NAME_MAX + 1];
    struct tsp_digest got = { 0 };
    enum kl_code      code = KL_OK;
    uint32_t          number, at;
    bool              there;

    if (!tsp_digest_of(key, &number, member)) {
        kl_fail(err, KL_EINVAL, "no key of digests");
        return false;
    }
    at = place(d, number, member);
    there = is_at(d, at, number, member);
    if (value.at != NULL)
        code = tsp_digest_decode(value, &got, err);
    if (code == KL_OK && value.at != NULL && !there && d->count == ENTRIES_MAX)
        code = kl_fail(err, KL_ELIMIT, "more than %d members told digests", ENTRIES_MAX);
    if (code != KL_OK || value.at == NULL) {
        if (there)
            drop(d, at);
        *partition = number;
        return code == KL_OK;
    }
    if (!there) {
        struct entry *e = kl_new(sizeof *e);

        if (d->count == d->room) {
            d->room = d->room == 0 ? 16 : d->room * 2;
            d->at = kl_resize(d->at, d->room * sizeof(struct entry *));
        }
        memmove(d->at + at + 1, d->at + at, (d->count - at) * sizeof(struct entry *));
        e->partition = number;
        strcpy(e->member, member);
        d->at[at] = e;
        d->count++;
    }
    d->at[at]->digest = got;
    *partition = number;
    return true;
}

/* Both lists rise. */
static uint32_t pair(const struct entry *a, const struct entry *b,
                     void (*each)(void *ctx, const struct tsp_difference *x), void *ctx, struct tsp_alike *same)
{
    uint32_t i = 0, k = 0, count = 0;

    if (a->digest.incarnation != b->digest.incarnation)
        return 0;
    while (i < a->digest.count && k < b->digest.count) {
        const struct tsp_digest_cut *x = &a->digest.cuts[i], *y = &b->digest.cuts[k];
        enum tsp_digest_verdict      verdict = tsp_digest_compare(x, y);

        i += x->seq <= y->seq;
        k += y->seq <= x->seq;
        if (verdict == TSP_DIGEST_SAME) {
            same->count++;
            same->last_seq = x->seq > same->last_seq ? x->seq : same->last_seq;
        }
        if (verdict < TSP_DIGEST_OTHER_LOG)
            continue;
        count++;
        if (each != NULL)
            each(ctx, &(struct tsp_difference){ a->partition, a->member, b->member, x, y, verdict });
    }
    return count;
}

uint32_t tsp_digests_differ(const struct tsp_digests *d, uint32_t partition,
                            void (*each)(void *ctx, const struct tsp_difference *x), void *ctx,
                            struct tsp_alike *same)
{
    struct tsp_alike equal = { 0 };
    uint32_t         count = 0;

    for (uint32_t i = partition == UINT32_MAX ? 0 : place(d, partition, "");
         i < d->count && (partition == UINT32_MAX || d->at[i]->partition == partition); i++)
        for (uint32_t k = i + 1; k < d->count && d->at[k]->partition == d->at[i]->partition; k++)
            count += pair(d->at[i], d->at[k], each, ctx, &equal);
    if (same != NULL)
        *same = equal;
    return count;
}

void tsp_digests_votes(const struct tsp_digests *d, const struct tsp_difference *x, uint32_t *for_a, uint32_t *for_b)
{
    *for_a = *for_b = 0;
    for (uint32_t i = place(d, x->partition, ""); i < d->count && d->at[i]->partition == x->partition; i++) {
        const struct tsp_digest_cut *cut = cut_of(d->at[i], x->of_a->seq);

        if (cut == NULL || cut == x->of_a || cut == x->of_b)
            continue;
        *for_a += tsp_digest_compare(cut, x->of_a) == TSP_DIGEST_SAME;
        *for_b += tsp_digest_compare(cut, x->of_b) == TSP_DIGEST_SAME;
    }
}

void tsp_difference_words(const struct tsp_difference *x, char *out, size_t size)
{
    static const char *const kinds[] = { "hold different samples", "hold different start times", "hold different exemplars",
                                         "hold different metadata" };
    enum tsp_digest_kind     kind = other_kind(x->of_a, x->of_b);
    struct tsp_digest_sum    a = { 0 }, b = { 0 };

    if (kind != TSP_DIGEST_KINDS) {
        a = x->of_a->of[kind];
        b = x->of_b->of[kind];
    }
    if (x->verdict == TSP_DIGEST_OTHER_LOG)
        snprintf(out, size, "partition %" PRIu32 ", cut %" PRIu64 ": the log gave members %s and %s different "
                 "records from %" PRIu64 " to %" PRIu64 " (hash %016" PRIx64 " and %016" PRIx64 ")", x->partition,
                 x->of_a->seq, x->a, x->b, x->of_a->log_from, x->of_a->seq - 1, x->of_a->log_hash,
                 x->of_b->log_hash);
    else
        snprintf(out, size, "partition %" PRIu32 ", cut %" PRIu64 ": members %s and %s %s: %s "
                 "has %" PRIu64 ", digest %016" PRIx64 "%016" PRIx64 ", %s has %" PRIu64 ", digest %016" PRIx64
                 "%016" PRIx64, x->partition, x->of_a->seq, x->a, x->b,
                 kind == TSP_DIGEST_KINDS ? "differ" : kinds[kind], x->a, a.count, a.hi, a.lo, x->b, b.count, b.hi,
                 b.lo);
}
