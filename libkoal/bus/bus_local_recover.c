/*
 * Recovery: from the folder to an index, and a new segment to write to.
 *
 * Of every segment but the newest, the next one's header says how many bytes count: they must
 * parse to that byte exactly. Their heads are read, not the records' bytes, which are checked when
 * read. The newest is read whole. Where it stops to parse, at byte T, it was torn by a crash -
 * unless a later group of it says that T was synced before that group was written: then what is
 * damaged was acked, and the log is corrupt.
 *
 * What lies between the last byte known synced and the torn tail may be in no more than the
 * machine's memory. It is copied into the new segment, which is synced before it shows, and whose
 * header ends the old one at the last byte known synced.
 */
#include "libkoal/bus/bus_local_priv.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_SKIM = 64 << 10, WINDOW_WHOLE = 4 << 20 };
/* Rescued groups, at most: what may lie unsynced. More is a sign of damage, not of a crash. */
enum { SEGMENTS_MAX = 1 << 20 };

struct scan {
    struct kl_busl *bus;
    struct kl_env_view *view;
    struct kl_busl_segment_head head;
    char     name[KL_BUSL_NAME_MAX + 1];
    uint64_t size;                                     /* bytes that may be looked at */
    uint8_t *window;
    size_t   window_room, window_size, reach;          /* reach: how much to read ahead */
    uint64_t window_at;
};

/* `size` bytes at `offset`, borrowed until the next call; NULL past the end or on a failure. */
static const uint8_t *look(struct scan *s, uint64_t offset, size_t size, struct kl_err *err)
{
    if (offset > s->size || size > s->size - offset) {
        kl_fail(err, KL_ECORRUPT, "log segment %s ends at byte %" PRIu64, s->name, s->size);
        return NULL;
    }
    if (offset < s->window_at || offset + size > s->window_at + s->window_size) {
        size_t want = size > s->reach ? size : s->reach;

        if (want > s->size - offset)
            want = (size_t)(s->size - offset);
        if (want > s->window_room) {
            s->window = kl_resize(s->window, want);
            s->window_room = want;
        }
        s->window_size = 0;
        if (s->bus->dir->view_read(s->view, offset, s->window, want, err) != KL_OK) {
            /* In an encrypted folder what is read ahead may be damaged where nobody looks yet. */
            want = err->code == KL_ECORRUPT ? size : want;
            if (want > size || s->bus->dir->view_read(s->view, offset, s->window, want, err) != KL_OK)
                want = 0;
        }
        if (want == 0) {
            kl_within(err, "log segment %s", s->name);
            return NULL;
        }
        s->window_at = offset;
        s->window_size = want;
    }
    return s->window + (offset - s->window_at);
}

/* What a pass over a segment does with each entry. `bytes` is NULL unless the pass reads whole. */
typedef enum kl_code (*each_fn)(struct scan *s, void *ctx, const struct kl_busl_entry_head *h,
                                uint64_t offset, const uint8_t *bytes, struct kl_err *err);

/*
 * Walks groups from `from` to `to`. *at: where it stopped, `to` if all is well; else the first
 * byte that does not parse, err saying why, code KL_ECORRUPT (or what a read failed with, or what
 * `each` returned). *synced: the most that any group header seen says is durable.
 */
static enum kl_code walk(struct scan *s, uint64_t from, uint64_t to, bool whole, each_fn each,
                         void *ctx, uint64_t *at, uint64_t *synced, struct kl_err *err)
{
    uint64_t salt = s->head.salt;

    for (*at = from; *at < to;) {
        struct kl_busl_group_head g;
        const uint8_t *in = look(s, *at, KL_BUSL_GROUP_HEAD, err);
        uint64_t end;

        if (in == NULL)
            return err->code;
        if (!kl_busl_group_get(in, salt, *at, &g) || g.synced > *at || g.count == 0)
            return kl_fail(err, KL_ECORRUPT, "log segment %s: no group of records at byte %" PRIu64,
                           s->name, *at);
        if (g.synced > *synced)
            *synced = g.synced;
        end = *at + KL_BUSL_GROUP_HEAD + g.size;
        for (uint64_t o = *at + KL_BUSL_GROUP_HEAD; o < end || g.count > 0; g.count--) {
            struct kl_busl_entry_head h;
            size_t avail = KL_BUSL_ENTRY_HEAD + KL_BUS_ID_MAX, size;

            *at = o;
            if (end > s->size && s->size - o < avail)
                avail = (size_t)(s->size - o);
            else if (end <= s->size && end - o < avail)
                avail = (size_t)(end - o);
            in = look(s, o, avail, err);
            if (in == NULL)
                return err->code;
            if (g.count == 0 || !kl_busl_entry_get(in, avail, salt, &h) ||
                h.partition >= s->head.partitions || kl_busl_entry_size(&h) > end - o)
                return kl_fail(err, KL_ECORRUPT, "log segment %s: no record at byte %" PRIu64,
                               s->name, o);
            size = kl_busl_entry_size(&h);
            if (whole) {
                in = look(s, o, size, err);
                if (in == NULL)
                    return err->code;
                h.id.at = in + KL_BUSL_ENTRY_HEAD;
                if (!kl_busl_entry_whole(in, &h))
                    return kl_fail(err, KL_ECORRUPT,
                                   "log segment %s: the record at byte %" PRIu64 " is damaged",
                                   s->name, o);
            }
            if (each(s, ctx, &h, o, whole ? in : NULL, err) != KL_OK)
                return err->code;
            o += size;
            *at = o;
        }
        *at = end;
    }
    return KL_OK;
}

/* Whether some group after byte `torn` was written when `torn` was already durable. */
static bool vouched(struct scan *s, uint64_t torn, struct kl_err *err)
{
    struct kl_busl_group_head g;

    for (uint64_t at = torn + 1; at + KL_BUSL_GROUP_HEAD <= s->size; at++) {
        const uint8_t *in = look(s, at, KL_BUSL_GROUP_HEAD, err);

        if (in == NULL)
            return false;
        if (in[0] == 'K' && kl_busl_group_get(in, s->head.salt, at, &g) && g.synced > torn) {
            kl_fail(err, KL_ECORRUPT, "log segment %s is damaged at byte %" PRIu64
                    ", which was durable before the records at byte %" PRIu64 " were written",
                    s->name, torn, at);
            return true;
        }
    }
    return false;
}

static enum kl_code ignore(struct scan *s, void *ctx, const struct kl_busl_entry_head *h,
                           uint64_t offset, const uint8_t *bytes, struct kl_err *err)
{
    (void)s, (void)ctx, (void)h, (void)offset, (void)bytes, (void)err;
    return KL_OK;
}

static void remember_id(struct kl_busl *b, const struct kl_busl_entry_head *h)
{
    int64_t age_ms = kl_env_now_ms(b->env) - h->time_ms, now = kl_busl_ids_now(b->env);

    if (h->id.size == 0 || age_ms > KL_BUSL_ID_WINDOW_MS)
        return;
    if (age_ms < 0)
        age_ms = 0;
    kl_busl_ids_add(b->writer.ids, h->partition, h->id, h->seq, now - age_ms, now);
}

static enum kl_code enter_entry(struct scan *s, void *ctx, const struct kl_busl_entry_head *h,
                                uint64_t offset, const uint8_t *bytes, struct kl_err *err)
{
    struct kl_busl *b = s->bus;

    (void)bytes;
    if (kl_busl_index_add(&b->reader.index, ctx, h->partition, h->seq, offset,
                          kl_busl_entry_size(h), err) != KL_OK)
        return kl_within(err, "log segment %s", s->name);
    remember_id(b, h);
    return KL_OK;
}

/* ---- rescue ---- */

struct rescue {
    uint64_t salt, at;                                 /* where the next group will lie */
    struct kl_busl_group **groups;
    size_t count, room;
};

static void rescue_seal(struct rescue *r, uint64_t number)
{
    struct kl_busl_group *g = r->count > 0 ? r->groups[r->count - 1] : NULL;

    if (g == NULL)
        return;
    kl_busl_group_seal(g, number, r->at, r->salt, r->at);
    r->at += g->size;
}

static enum kl_code rescue_entry(struct scan *s, void *ctx, const struct kl_busl_entry_head *h,
                                 uint64_t offset, const uint8_t *bytes, struct kl_err *err)
{
    enum { ENTRIES = 8192 };
    struct rescue *r = ctx;
    struct kl_busl_group *g = r->count > 0 ? r->groups[r->count - 1] : NULL;
    struct kl_busl_entry_head copy = *h;

    (void)s, (void)offset, (void)err;
    if (g == NULL || g->count == g->entry_room || g->room - g->size < kl_busl_entry_size(h)) {
        rescue_seal(r, 0);
        if (r->count == r->room) {
            r->room = r->room > 0 ? 2 * r->room : 8;
            r->groups = kl_resize(r->groups, r->room * sizeof(struct kl_busl_group *));
        }
        g = r->groups[r->count++] = kl_busl_group_new(2 * KL_BUSL_ENTRY_MAX, ENTRIES);
    }
    kl_busl_group_add(g, r->salt, &copy,
                      kl_span(bytes + KL_BUSL_ENTRY_HEAD + h->id.size, h->size));
    return KL_OK;
}

/* ---- the folder ---- */

struct numbers { uint64_t *at; size_t count, room; bool leftover[3]; };
static const char *const leftovers[3] = { "segment.tmp", "META.tmp", "MARKS.tmp" };

static void note(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    struct numbers *n = ctx;
    uint64_t number;

    (void)size_bytes;
    for (int i = 0; i < 3; i++)
        n->leftover[i] |= !is_dir && strcmp(name, leftovers[i]) == 0;
    if (is_dir || !kl_busl_segment_number(name, &number) || n->count >= SEGMENTS_MAX)
        return;
    if (n->count == n->room) {
        n->room = n->room > 0 ? 2 * n->room : 64;
        n->at = kl_resize(n->at, n->room * sizeof *n->at);
    }
    n->at[n->count++] = number;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void scan_close(struct scan *s)
{
    if (s->view != NULL)
        s->bus->dir->view_close(s->view);
    free(s->window);
    *s = (struct scan){ 0 };
}

static enum kl_code scan_open(struct kl_busl *b, uint64_t number, struct scan *s,
                              struct kl_err *err)
{
    uint8_t head[KL_BUSL_SEGMENT_HEAD];

    *s = (struct scan){ .bus = b, .reach = WINDOW_SKIM };
    kl_busl_segment_name(s->name, number);
    if (b->dir->view(b->dir, s->name, &s->view, &s->size, err) != KL_OK)
        return kl_within(err, "log segment %s", s->name);
    if (s->size < sizeof head)
        kl_fail(err, KL_ECORRUPT, "it is shorter than its header");
    else if (s->size > UINT32_MAX)
        kl_fail(err, KL_ECORRUPT, "it is longer than any segment");
    else if (b->dir->view_read(s->view, 0, head, sizeof head, err) == KL_OK &&
             kl_busl_segment_get(head, &s->head, err) == KL_OK) {
        if (s->head.number != number || s->head.incarnation != b->incarnation ||
            s->head.partitions != b->options.partitions)
            kl_fail(err, KL_ECORRUPT, "it belongs to another log, or has another's name");
        else
            return KL_OK;
    }
    kl_within(err, "log segment %s", s->name);
    scan_close(s);
    return err->code;
}

static enum kl_code index_range(struct scan *s, uint64_t to, struct kl_err *err)
{
    struct kl_busl *b = s->bus;
    struct kl_busl_segment *x = kl_busl_index_segment(&b->reader.index, s->head.number,
                                                      s->head.salt);
    uint64_t at, synced = 0;

    if (walk(s, KL_BUSL_SEGMENT_HEAD, to, false, enter_entry, x, &at, &synced, err) != KL_OK)
        return err->code;
    if (at != to)
        return kl_fail(err, KL_ECORRUPT, "log segment %s: a group reaches past its end at byte "
                       "%" PRIu64, s->name, to);
    x->size = s->size;
    atomic_fetch_add(&b->log_bytes, s->size);
    return KL_OK;
}

/* The newest segment: what of it counts, and what to carry into the next one. */
static enum kl_code newest(struct scan *s, uint64_t *end, struct rescue *r, struct kl_err *err)
{
    struct kl_err why = { 0 };
    uint64_t valid, at, synced = KL_BUSL_SEGMENT_HEAD;

    s->reach = WINDOW_WHOLE;
    if (walk(s, KL_BUSL_SEGMENT_HEAD, s->size, true, ignore, NULL, &valid, &synced, &why) !=
        KL_OK) {
        if (why.code != KL_ECORRUPT) {
            *err = why;
            return err->code;
        }
        *err = (struct kl_err){ 0 };
        if (vouched(s, valid, err) || err->code != KL_OK)
            return err->code;
        kl_logf(s->bus->log, KL_WARN, "%s: a crash cut it short there; nothing acked is lost",
                why.text);
    }
    *end = synced;
    r->at = KL_BUSL_SEGMENT_HEAD;
    r->salt = kl_env_draw(s->bus->env);
    if (valid > synced) {
        uint64_t again = 0;

        /* It parsed up to `valid` a moment ago: a group cut there is met again, and is the end. */
        if (walk(s, synced, valid, true, rescue_entry, r, &at, &again, &why) != KL_OK &&
            at != valid) {
            *err = why;
            return err->code;
        }
    }
    return KL_OK;
}

static enum kl_code all_segments(struct kl_busl *b, const struct numbers *n, struct kl_err *err)
{
    struct scan     s = { 0 }, next = { 0 };
    struct rescue   r = { .salt = kl_env_draw(b->env), .at = KL_BUSL_SEGMENT_HEAD };
    struct kl_busl_writer *w = &b->writer;
    uint64_t number = 1, end = 0, previous_end = 0;
    enum kl_code code = KL_OK;

    if (n->count > 0)
        code = scan_open(b, n->at[0], &s, err);
    for (size_t i = 0; code == KL_OK && i < n->count; i++) {
        if (i + 1 < n->count && n->at[i + 1] != n->at[i] + 1)
            code = kl_fail(err, KL_ECORRUPT, "log segment %016" PRIx64 " is missing", n->at[i] + 1);
        else if (i + 1 < n->count && (code = scan_open(b, n->at[i + 1], &next, err)) == KL_OK)
            end = next.head.previous_end;
        else if (code == KL_OK)
            code = newest(&s, &end, &r, err);
        if (code == KL_OK && (end < KL_BUSL_SEGMENT_HEAD || end > s.size))
            code = kl_fail(err, KL_ECORRUPT, "log segment %s has %" PRIu64 " bytes, not the "
                           "%" PRIu64 " that were durable", s.name, s.size, end);
        if (code == KL_OK && i + 1 == n->count && end == KL_BUSL_SEGMENT_HEAD) {
            number = s.head.number;                    /* nothing in it stays: it is replaced */
            previous_end = s.head.previous_end;
        } else if (code == KL_OK && (code = index_range(&s, end, err)) == KL_OK) {
            number = s.head.number + 1;
            previous_end = end;
        }
        scan_close(&s);
        s = next;
        next = (struct scan){ 0 };
    }
    scan_close(&s);
    if (code == KL_OK) {
        rescue_seal(&r, 0);
        code = kl_busl_segment_begin(b, number, previous_end, r.groups, r.count, r.salt, &w->file,
                                     &w->size, err);
    }
    if (code == KL_OK) {
        struct kl_busl_segment *x = kl_busl_index_segment(&b->reader.index, number, r.salt);

        w->number = number;
        w->synced = w->size;
        w->salt = r.salt;
        x->size = w->size;
        for (size_t i = 0; code == KL_OK && i < r.count; i++)
            for (uint32_t k = 0; code == KL_OK && k < r.groups[i]->count; k++) {
                const struct kl_busl_entry *e = &r.groups[i]->entries[k];
                struct kl_busl_entry_head h;

                code = kl_busl_index_add(&b->reader.index, x, e->partition, e->seq,
                                         r.groups[i]->offset + e->at, e->size, err);
                if (code == KL_OK && kl_busl_entry_get(r.groups[i]->bytes + e->at, e->size,
                                                       r.salt, &h))
                    remember_id(b, &h);
            }
    }
    for (size_t i = 0; i < r.count; i++)
        kl_busl_group_unref(r.groups[i]);
    free(r.groups);
    return code;
}

enum kl_code kl_busl_recover(struct kl_busl *b, struct kl_err *err)
{
    uint32_t partitions = b->options.partitions;
    struct kl_busl_index *x = &b->reader.index;
    struct numbers n = { 0 };
    uint64_t *marks = kl_new(partitions * sizeof *marks);
    enum kl_code code = b->dir->list(b->dir, note, &n, err);

    kl_busl_index_init(x, partitions);
    b->writer.ids = kl_busl_ids_new();
    b->writer.next_seq = kl_new(partitions * sizeof *b->writer.next_seq);
    if (n.count > 0)
        qsort(n.at, n.count, sizeof *n.at, by_number);
    for (int i = 0; code == KL_OK && i < 3; i++)
        if (n.leftover[i])
            code = b->dir->remove(b->dir, leftovers[i], err);
    if (code == KL_OK && n.count >= SEGMENTS_MAX)
        code = kl_fail(err, KL_ELIMIT, "more than %d log segments", SEGMENTS_MAX);
    if (code == KL_OK)
        code = kl_busl_meta_open(b->env, b->dir, partitions, n.count == 0, &b->incarnation, err);
    if (code == KL_OK)
        code = kl_busl_marks_read(b->dir, partitions, marks, err);
    for (uint32_t p = 0; code == KL_OK && p < partitions; p++)
        x->first[p] = marks[p] + 1;
    if (code == KL_OK)
        code = all_segments(b, &n, err);
    for (uint32_t p = 0; p < partitions; p++) {
        if (x->last[p] < marks[p])
            x->last[p] = marks[p];
        b->writer.next_seq[p] = x->last[p] + 1;
    }
    free(marks);
    free(n.at);
    return code;
}
