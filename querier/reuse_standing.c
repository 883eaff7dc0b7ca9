/* How partitions stand for what a query looks at, and whether a piece of an earlier answer still holds. */
#include "querier/reuse_priv.h"

#include <stdlib.h>

enum { HOUR_MS = 3600 * 1000 };

static uint64_t file_hash(const struct blk_info *i)
{
    uint64_t of[] = { (uint64_t)i->window_start_ms, (uint64_t)i->window_ms, i->id, i->generation,
                      i->incarnation, i->content, i->obeyed, i->quarantined };

    return kl_hash64(of, sizeof of);
}

static void read_files(struct qr_standing *s, const struct qr_manifest *m, const char *tenant, int64_t from_ms,
                       int64_t to_ms)
{
    if (m == NULL)
        return;
    s->revision = m->m.revision;
    s->hides = m->m.deletion_count == 0 ? m->m.deletions_made
                                        : kl_hash64((uint64_t[]){ m->m.deletions_made, m->m.deleted_seq,
                                                                  m->m.deletion_count }, 24);
    s->files = kl_new((m->m.fileset_count + 1) * sizeof *s->files);
    for (uint32_t i = 0; i < m->m.fileset_count; i++) {
        const struct blk_info *f = &m->m.filesets[i];

        if (f->series_count > 0 && f->min_ms <= to_ms && f->max_ms >= from_ms && strcmp(f->tenant, tenant) == 0)
            s->files[s->file_count++] = (struct qr_file_seen){ f->min_ms, f->max_ms, file_hash(f) };
    }
}

static bool read_marks(struct qr_standing *s, const struct qr_part *p)
{
    struct tsp_page page;
    struct kl_cur   c;
    struct kl_err   err;
    struct qr_mark     m;
    size_t          room = 0;

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
        s->marks[s->mark_count++] = m;
    }
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

static uint64_t files_of(const struct qr_standing *s, int64_t from_ms, int64_t to_ms)
{
    uint64_t sum = s->hides;                           /* in whatever order the manifest has them */

    for (size_t i = 0; i < s->file_count; i++)
        if (s->files[i].min_ms <= to_ms && s->files[i].max_ms >= from_ms)
            sum += s->files[i].hash;
    return sum;
}

/* The last record that wrote something of these hours. */
static uint64_t written(const struct qr_standing *s, int64_t from_ms, int64_t to_ms)
{
    int64_t  from = qr_floor_div(from_ms, HOUR_MS), to = qr_floor_div(to_ms, HOUR_MS);
    uint64_t last = 0, told = 0;

    for (size_t i = 0; i < s->mark_count; i++)
        if (s->marks[i].hour >= from && s->marks[i].hour <= to) {
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

bool qr_reuse_holds(const struct qr_reuse *r, const struct qr_piece *p)
{
    int64_t  last_ms = p->first_ms + p->step_ms * ((int64_t)p->step_count - 1);
    uint32_t at = 0;

    for (size_t i = 0; i < r->need_count; i++) {
        const struct qr_reuse_need *n = &r->needs[i];
        int64_t            from_ms = qr_reuse_sees_from(r, n, p->first_ms), to_ms = qr_reuse_sees_to(r, n, last_ms);

        for (size_t k = 0; k < n->state_count; k++, at++) {
            const struct qr_standing   *s = &n->states[k];
            const struct qr_seen *seen = &p->seen[at];

            if (at >= p->seen_count || seen->partition != s->partition ||
                seen->incarnation != s->incarnation || seen->files != files_of(s, from_ms, to_ms) ||
                written(s, from_ms, to_ms) > seen->applied)
                return false;
        }
    }
    return at == p->seen_count;
}

bool qr_reuse_note_seen(const struct qr_reuse *r, struct qr_piece *p)
{
    int64_t  last_ms = p->first_ms + p->step_ms * ((int64_t)p->step_count - 1);
    uint32_t count = 0;

    for (size_t i = 0; i < r->need_count; i++)
        count += (uint32_t)r->needs[i].state_count;
    p->seen = kl_arena_alloc(&p->arena, (count + 1) * sizeof *p->seen);
    if (p->seen == NULL)
        return false;
    for (size_t i = 0; i < r->need_count; i++) {
        const struct qr_reuse_need *n = &r->needs[i];

        for (size_t k = 0; k < n->state_count; k++)
            p->seen[p->seen_count++] = (struct qr_seen){
                n->states[k].partition, n->states[k].incarnation, n->states[k].applied,
                files_of(&n->states[k], qr_reuse_sees_from(r, n, p->first_ms), qr_reuse_sees_to(r, n, last_ms)) };
    }
    p->bytes = sizeof *p + p->arena.used_bytes;
    return true;
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
