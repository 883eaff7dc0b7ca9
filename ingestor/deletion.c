/*
 * A deletion, from the log into the catalogue. When it is read, the heads forget what it means at
 * once; then a job of the partition's queue, behind all cuts before it, lists it in the manifest, for
 * the filesets of these cuts. Until that is committed the log is kept from there on, and a restart
 * reads it again: what a head forgets twice, or a manifest is told twice, is the same.
 *
 * libblock/deletion.h says what it hides; tidy.c rewrites the filesets.
 */
#include "ingestor/ing_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- samples that wait for a definition: nobody knows yet whether they are meant ---- */

void ing_deletion_put(const struct blk_deletion *d, struct kl_buf *out)
{
    struct kl_buf b = { 0 };

    for (uint32_t i = 0; i < d->matcher_count; i++) {
        kl_buf_add8(&b, (uint8_t)d->matchers[i].op);
        kl_buf_addspan(&b, d->matchers[i].name);
        kl_buf_addspan(&b, d->matchers[i].value);
    }
    kl_buf_add64(out, (uint64_t)d->from_ms);
    kl_buf_add64(out, (uint64_t)d->to_ms);
    kl_buf_addspan(out, kl_buf_span(&b));
    kl_buf_deinit(&b);
}

struct blk_deletion *ing_deletion_get(struct kl_cur *c)
{
    struct kl_matcher    matchers[BLK_DELETION_MATCHERS_MAX];
    struct blk_deletion  like = { .matchers = matchers }, *d;
    struct kl_span       bytes;
    struct kl_cur        m;
    struct kl_err        err;

    like.from_ms = (int64_t)kl_cur_64(c);
    like.to_ms = (int64_t)kl_cur_64(c);
    bytes = kl_cur_span(c);
    if (c->bad)
        return NULL;
    m = kl_cur(bytes.at, bytes.size);
    while (kl_cur_left(&m) > 0 && like.matcher_count < BLK_DELETION_MATCHERS_MAX) {
        struct kl_matcher *x = &matchers[like.matcher_count++];
        uint8_t            op = kl_cur_8(&m);

        x->op = (enum kl_match_op)op;
        x->name = kl_cur_span(&m);
        x->value = kl_cur_span(&m);
        if (m.bad || op > KL_MATCH_NRE)
            return NULL;
    }
    return kl_cur_left(&m) == 0 && blk_deletion_new(&like, &d, &err) == KL_OK ? d : NULL;
}

/* ---- reading one ---- */

/* Of a cut that is not let go yet: freed with it. The series stays meanwhile. */
static void taken(void *ctx, struct ing_head *h, struct ing_series *s, struct ing_chunk *c)
{
    struct ing_partition *p = ctx;
    struct ing_job       *j = p->jobs;

    while (j != NULL && (j->number != c->cut || j->parts == NULL))
        j = j->next;
    assert(j != NULL);
    if ((j->erased_count & (j->erased_count - 1)) == 0)
        j->erased = kl_resize(j->erased, (j->erased_count == 0 ? 1 : j->erased_count * 2) *
                                             sizeof *j->erased);
    j->erased[j->erased_count++] = (struct ing_erased){ h, s, c };
    s->definitions++;
}

void ing_erased_free(struct ing_job *j)
{
    for (uint32_t i = 0; i < j->erased_count; i++) {
        j->erased[i].series->definitions--;
        ing_chunk_free(j->erased[i].head, j->erased[i].chunk);
    }
    free(j->erased);
    j->erased = NULL;
    j->erased_count = 0;
}

/* Deletions on their way into the catalogue. */
static uint32_t queued(const struct ing_partition *p)
{
    uint32_t n = 0;

    for (const struct ing_job *j = p->jobs; j != NULL; j = j->next)
        n += j->step < ING_CLEAN ? j->deletion_count : 0;
    return n;
}

void ing_deletion_read(struct ing_partition *p, struct kl_span tenant, const struct tsp_deletion *t)
{
    struct blk_deletion  like = { .seq = p->record_seq, .incarnation = p->incarnation,
                                  .at_ms = p->record_time_ms, .from_ms = t->from_ms,
                                  .to_ms = t->to_ms, .matcher_count = t->matcher_count,
                                  .matchers = (struct kl_matcher *)t->matchers };
    struct blk_deletion *d;
    struct ing_tenant   *of = ing_tenant(p, tenant, false);

    assert(tenant.size <= BLK_TENANT_MAX);             /* the record's reader has looked */
    memcpy(like.tenant, tenant.at, tenant.size);
    if (blk_deletion_new(&like, &d, &p->cut_err) != KL_OK) {
        kl_fail(&p->cut_err, KL_ECORRUPT, "a deletion whose matchers cannot be obeyed");
        return;
    }
    kl_count(p->i->m.deletions, 1);
    p->late_writes++;                                  /* what was answered before is no more true */
    ing_marks_span(&p->marks, t->from_ms, t->to_ms, p->record_seq);
    if (of != NULL) {
        ing_pass_end(p);                               /* of chunks that may go now */
        ing_head_erase(of->head, d, taken, p);
        for (struct ing_refs *r = of->refs; r != NULL; r = r->next)
            ing_orphans_erase(p, r, d);
    }
    if (p->record_seq <= p->manifest.deleted_seq) {    /* the catalogue has it */
        blk_deletion_unref(d);
        return;
    }
    if (p->manifest.deletion_count + queued(p) + p->deleting_count >= BLK_DELETIONS_MAX) {
        blk_deletion_unref(d);
        kl_fail(&p->cut_err, KL_ELIMIT, "more than %d deletions wait to be rewritten",
                BLK_DELETIONS_MAX);
        return;
    }
    p->deleting = kl_resize(p->deleting, (p->deleting_count + 1) * sizeof(struct blk_deletion *));
    p->deleting[p->deleting_count++] = d;
}

/* The record is applied: its deletions become a job. */
void ing_deletions_queue(struct ing_partition *p)
{
    struct ing_job *j;

    if (p->deleting_count == 0)
        return;
    j = kl_new(sizeof *j);
    j->p = p;
    j->step = ING_PUT;
    j->seq = j->first_seq = p->record_seq;
    j->deletions = p->deleting;
    j->deletion_count = p->deleting_count;
    p->deleting = NULL;
    p->deleting_count = 0;
    ing_job_queue(j);
}

void ing_deletions_drop(struct blk_deletion **list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        blk_deletion_unref(list[i]);
    free(list);
}

/* ---- into the catalogue ---- */

void ing_deletions_build(const struct ing_job *j, struct blk_manifest *m)
{
    if (j->seq <= m->deleted_seq)
        return;                                        /* somebody else was quicker */
    for (uint32_t i = 0; i < j->deletion_count; i++) {
        struct blk_deletion  like = *j->deletions[i], *d;
        struct kl_err        err;

        like.number = m->deletions_made + 1;
        if (blk_deletion_new(&like, &d, &err) != KL_OK)
            assert(!"what compiled once does so again");
        blk_manifest_delete(m, d);
    }
    m->deleted_seq = j->seq;
}

/* How many of them some fileset that can be read has yet to obey. */
static uint32_t pending(const struct blk_manifest *m, uint64_t up_to)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < m->deletion_count; i++)
        for (uint32_t k = 0; k < m->fileset_count && m->deletions[i]->number <= up_to; k++)
            if (!m->filesets[k].quarantined && blk_deletion_concerns(m->deletions[i], &m->filesets[k])) {
                n++;
                break;
            }
    return n;
}

void ing_deletions_count(struct ing_partition *p)
{
    uint64_t waiting;

    if (p->counted_revision != p->manifest.revision) {
        p->counted_revision = p->manifest.revision;
        p->counted = pending(&p->manifest, UINT64_MAX);
    }
    waiting = p->counted + queued(p);
    atomic_store(&p->m_deletions, ing_epoch(p) != 0 ? waiting : 0);
}

/* ---- cleaning on request ---- */

void ing_clean_begin(struct ing_wait *w)
{
    struct ing_partition *p = w->p;

    w->seq = p->clean_number = p->manifest.deletions_made;
    w->next = p->cleans;
    p->cleans = w;
    p->tidy_again_ns = p->tidy_seen_until_ns = 0;
}

void ing_clean_tick(struct ing_partition *p)
{
    for (struct ing_wait **at = &p->cleans; *at != NULL;) {
        struct ing_wait *w = *at;

        if (ing_epoch(p) != 0 && pending(&p->manifest, w->seq) > 0) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        ing_wait_end(w, KL_OK, NULL);
    }
}
