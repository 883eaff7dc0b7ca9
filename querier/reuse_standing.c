/* How partitions stand for what a query looks at, and whether a piece of an earlier answer still holds. */
#include "querier/reuse_priv.h"

#include <stdlib.h>

enum { HOUR_MS = 3600 * 1000 };

static int by_min(const void *a, const void *b)
{
    const struct qr_file_seen *x = a, *y = b;

    return x->min_ms < y->min_ms ? -1 : x->min_ms > y->min_ms;
}

static void read_files(struct qr_standing *s, const struct qr_manifest *m, const char *tenant, int64_t from_ms,
                       int64_t to_ms)
{
    const struct qr_origin *o;
    size_t                  count;

    if (m == NULL)
        return;
    s->revision = m->m.revision;
    s->floor = qr_lineage_floor(m->lineage);
    count = qr_lineage_of(m->lineage, tenant, &o);
    s->files = kl_new((count + m->m.deletion_count + 1) * sizeof *s->files);
    for (size_t i = 0; i < count && o[i].min_ms <= to_ms; i++)
        if (o[i].max_ms >= from_ms)
            s->files[s->file_count++] = (struct qr_file_seen){ o[i].min_ms, o[i].max_ms, 0, o[i].hash, o[i].added,
                                                               o[i].id, o[i].incarnation, o[i].told };
    /* When one was made the owner's marks tell; while it is listed it hides something of filesets, of
     * rows to the end of their bucket; when all of them have obeyed it they are others. */
    for (uint32_t i = 0; i < m->m.deletion_count; i++) {
        const struct blk_deletion *d = m->m.deletions[i];
        int64_t last_ms = d->to_ms < INT64_MAX - HOUR_MS ? d->to_ms + HOUR_MS : INT64_MAX;

        if (d->from_ms <= to_ms && last_ms >= from_ms && strcmp(d->tenant, tenant) == 0)
            s->files[s->file_count++] = (struct qr_file_seen){
                .min_ms = d->from_ms, .max_ms = last_ms,
                .hash = kl_hash64((uint64_t[]){ 1, d->number, d->seq, d->incarnation }, 32) };
    }
    if (m->m.deletion_count > 0)
        qsort(s->files, s->file_count, sizeof *s->files, by_min);
    for (size_t i = 0; i < s->file_count; i++)
        s->files[i].latest_ms = i > 0 && s->files[i - 1].latest_ms > s->files[i].max_ms ? s->files[i - 1].latest_ms
                                                                                       : s->files[i].max_ms;
}

static int by_hour(const void *a, const void *b)
{
    const struct qr_mark *x = a, *y = b;

    return x->hour < y->hour ? -1 : x->hour > y->hour;
}

static bool read_marks(struct qr_standing *s, const struct qr_part *p)
{
    struct tsp_page page;
    struct kl_cur   c;
    struct kl_err   err;
    struct qr_mark     m;
    size_t          room = 0;
    bool            rising = true;

    if (p->page_count != 1 ||
        tsp_page_open(kl_span(p->pages[0].bytes, p->pages[0].size), &page, &c, &err) != KL_OK || page.more)
        return false;
    s->applied = page.applied_seq;
    s->incarnation = page.incarnation;
    s->rest = tsp_marks_rest(&c);
    while (tsp_marks_next(&c, &m.hour, &m.seq)) {
        if (s->mark_count == room) {
            room = room == 0 ? 32 : room * 2;
            s->marks = kl_resize(s->marks, room * sizeof *s->marks);
        }
        rising = rising && (s->mark_count == 0 || s->marks[s->mark_count - 1].hour < m.hour);
        s->marks[s->mark_count++] = m;
    }
    if (!rising)                                       /* the owner has them in a ring */
        qsort(s->marks, s->mark_count, sizeof *s->marks, by_hour);
    return !c.bad;
}

bool qr_reuse_read_states(struct qr_reuse *r)
{
    for (size_t i = 0; i < r->need_count; i++) {
        struct qr_fetch *f = &r->probes[i];
        struct qr_reuse_need     *n = &r->needs[i];

        if (f->probe_failed || f->part_count == 0)
            return false;
        n->states = kl_new(f->part_count * sizeof *n->states);
        n->state_count = f->part_count;
        for (size_t k = 0; k < f->part_count; k++) {
            struct qr_standing *s = &n->states[k];

            s->partition = f->parts[k]->partition;
            if (f->parts[k]->failed || !read_marks(s, f->parts[k]))
                return false;
            read_files(s, f->parts[k]->manifest, r->x->job.tenant, f->from_ms, f->to_ms);
        }
    }
    return true;
}

void qr_reuse_free_states(struct qr_reuse *r)
{
    for (size_t i = 0; i < r->need_count && r->needs != NULL; i++) {
        for (size_t k = 0; k < r->needs[i].state_count; k++) {
            free(r->needs[i].states[k].files);
            free(r->needs[i].states[k].marks);
        }
        free(r->needs[i].states);
    }
    free(r->needs);
}

/* Those that were there in that revision. What has come since of records that the owner has read changes nothing but
 * what his marks tell of. False: something else has come. */
static bool files_of(const struct qr_standing *s, int64_t from_ms, int64_t to_ms, uint64_t revision, uint64_t *sum)
{
    size_t low = 0, high = s->file_count;

    *sum = 0;                                          /* in whatever order they are */
    while (low < high) {                               /* the first that begins later */
        size_t mid = low + (high - low) / 2;

        if (s->files[mid].min_ms <= to_ms)
            low = mid + 1;
        else
            high = mid;
    }
    for (size_t i = low; i-- > 0 && s->files[i].latest_ms >= from_ms; ) {
        const struct qr_file_seen *f = &s->files[i];

        if (f->max_ms < from_ms)
            continue;
        if (f->added <= revision)
            *sum += f->hash;
        else if (!f->told || f->incarnation != s->incarnation || f->id > s->applied)
            return false;
    }
    return true;
}

static size_t first_mark(const struct qr_standing *s, int64_t hour)
{
    size_t low = 0, high = s->mark_count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (s->marks[mid].hour < hour)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The last record that wrote something of these hours. */
static uint64_t written(const struct qr_standing *s, int64_t from_ms, int64_t to_ms)
{
    int64_t  from = qr_floor_div(from_ms, HOUR_MS), to = qr_floor_div(to_ms, HOUR_MS);
    uint64_t last = 0, told = 0;

    for (size_t i = first_mark(s, from); i < s->mark_count && s->marks[i].hour <= to; i++) {
        told++;
        last = s->marks[i].seq > last ? s->marks[i].seq : last;
    }
    if (told < (uint64_t)(to - from) + 1 && s->rest > last)
        last = s->rest;
    return last;
}

int64_t qr_reuse_sees_from(const struct qr_reuse *r, const struct qr_reuse_need *n, int64_t first_ms)
{
    return first_ms - n->back_ms - r->slack_ms;
}
int64_t qr_reuse_sees_to(const struct qr_reuse *r, const struct qr_reuse_need *n, int64_t last_ms)
{
    return last_ms + n->ahead_ms + r->slack_ms;
}

bool qr_reuse_part(const struct qr_reuse *r, const struct qr_piece *p, int64_t number, int64_t *first_ms,
                   int64_t *last_ms)
{
    int64_t step_ms = p->step_ms, last = p->step_count - 1;
    int64_t from = -qr_floor_div(p->first_ms - number * r->part_ms, step_ms);           /* rounded up */
    int64_t to = qr_floor_div((number + 1) * r->part_ms - 1 - p->first_ms, step_ms);

    from = from < 0 ? 0 : from;
    to = to > last ? last : to;
    *first_ms = p->first_ms + step_ms * from;
    *last_ms = p->first_ms + step_ms * to;
    return from <= to;
}

bool qr_reuse_holds(const struct qr_reuse *r, const struct qr_piece *p, uint32_t part, int64_t first_ms,
                    int64_t last_ms)
{
    uint32_t at = 0;

    for (size_t i = 0; i < r->need_count; i++) {
        const struct qr_reuse_need *n = &r->needs[i];
        int64_t            from_ms = qr_reuse_sees_from(r, n, first_ms), to_ms = qr_reuse_sees_to(r, n, last_ms);

        for (size_t k = 0; k < n->state_count; k++, at++) {
            const struct qr_standing   *s = &n->states[k];
            const struct qr_seen *seen = &p->seen[part][at];
            uint64_t              files;

            if (at >= p->seen_count || seen->partition != s->partition || seen->incarnation != s->incarnation ||
                seen->revision < s->floor || seen->revision > s->revision ||       /* of another catalogue, then */
                !files_of(s, from_ms, to_ms, seen->revision, &files) || seen->files != files ||
                written(s, from_ms, to_ms) > seen->applied)
                return false;
        }
    }
    return at == p->seen_count;
}

static bool same(const struct qr_seen *a, const struct qr_seen *b, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (a[i].partition != b[i].partition || a[i].incarnation != b[i].incarnation ||
            a[i].applied != b[i].applied || a[i].revision != b[i].revision || a[i].files != b[i].files)
            return false;
    return true;
}

static void note_part(const struct qr_reuse *r, struct qr_piece *p, int64_t number, struct qr_seen *out)
{
    int64_t first_ms, last_ms;

    if (!qr_reuse_part(r, p, number, &first_ms, &last_ms))
        first_ms = last_ms = p->first_ms;              /* nobody will look */
    for (size_t i = 0; i < r->need_count; i++) {
        const struct qr_reuse_need *n = &r->needs[i];

        for (size_t k = 0; k < n->state_count; k++, out++) {
            const struct qr_standing *s = &n->states[k];

            *out = (struct qr_seen){ s->partition, s->incarnation, s->applied, s->revision, 0 };
            files_of(s, qr_reuse_sees_from(r, n, first_ms), qr_reuse_sees_to(r, n, last_ms), UINT64_MAX, &out->files);
        }
    }
}

void qr_reuse_note_seen(const struct qr_reuse *r, struct qr_piece *p)
{
    size_t size;

    for (size_t i = 0; i < r->need_count; i++)
        p->seen_count += (uint32_t)r->needs[i].state_count;
    size = (p->seen_count + 1) * sizeof **p->seen;
    p->seen = kl_new(p->parts * sizeof *p->seen);
    p->bytes += p->parts * sizeof *p->seen;
    for (uint32_t i = 0; i < p->parts; i++) {
        p->seen[i] = kl_new(size);
        note_part(r, p, p->number + i, p->seen[i]);
        if (i > 0 && same(p->seen[i], p->seen[i - 1], p->seen_count)) {
            free(p->seen[i]);
            p->seen[i] = p->seen[i - 1];
        } else {
            p->bytes += size;
        }
    }
}

static struct qr_reuse_need *need_of(const struct qr_reuse *r, const struct qr_fetch *f)
{
    for (size_t i = 0; i < r->need_count; i++)
        if (r->needs[i].id == f->id)
            return &r->needs[i];
    return NULL;
}

/* How a partition stood, by what it answered: all of that came from records up to the least position. */
static bool note_answers(struct qr_standing *s, const struct qr_part *p)
{
    s->applied = UINT64_MAX;
    for (size_t i = 0; i < p->page_count; i++) {
        struct tsp_page page;
        struct kl_cur   c;
        struct kl_err   err;

        if (tsp_page_open(kl_span(p->pages[i].bytes, p->pages[i].size), &page, &c, &err) != KL_OK ||
            (i > 0 && page.incarnation != s->incarnation))
            return false;
        s->incarnation = page.incarnation;
        s->applied = page.applied_seq < s->applied ? page.applied_seq : s->applied;
    }
    return p->page_count > 0 && !p->failed;
}

bool qr_reuse_note_fetch(struct qr_reuse *r, const struct qr_fetch *f)
{
    struct qr_reuse_need *n = need_of(r, f);

    if (n == NULL || n->states != NULL || f->part_count == 0)
        return false;
    n->states = kl_new(f->part_count * sizeof *n->states);
    n->state_count = f->part_count;
    for (size_t k = 0; k < f->part_count; k++) {
        struct qr_standing *s = &n->states[k];

        s->partition = f->parts[k]->partition;
        if (!note_answers(s, f->parts[k]))
            return false;
        read_files(s, f->parts[k]->manifest, r->x->job.tenant, qr_reuse_sees_from(r, n, r->x->params.start_ms),
                   qr_reuse_sees_to(r, n, qr_reuse_time(r, r->steps - 1)));
    }
    return true;
}

bool qr_reuse_read_enough(const struct qr_reuse *r, const struct qr_fetch *f)
{
    const struct qr_reuse_need *n = need_of(r, f);

    if (n == NULL || f->part_count != n->state_count)
        return false;
    for (size_t k = 0; k < f->part_count; k++) {
        const struct qr_part *p = f->parts[k];
        const struct qr_standing   *s = &n->states[k];

        if (p->partition != s->partition || p->failed ||
            (s->revision > 0 && (p->manifest == NULL || p->manifest->m.revision < s->revision)))
            return false;
        for (size_t i = 0; i < p->page_count; i++) {
            struct tsp_page page;
            struct kl_cur   c;
            struct kl_err   err;

            if (tsp_page_open(kl_span(p->pages[i].bytes, p->pages[i].size), &page, &c, &err) != KL_OK ||
                page.incarnation != s->incarnation || page.applied_seq < s->applied)
                return false;
        }
    }
    return true;
}
