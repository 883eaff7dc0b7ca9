/* A partition's life: assigned, loaded, replayed, live; broken or let go. */
#include "ingestor/ing_priv.h"
#include "ingestor/peer.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { IDLE_MS = 10 * 60 * 1000 };                     /* without a sample: once to twice that */

int64_t ing_backoff_ms(struct ing_ingestor *i, unsigned failures)
{
    int64_t ms = ING_RETRY_FIRST_MS;

    for (unsigned n = 1; n < failures && ms < ING_RETRY_MAX_MS; n++)
        ms *= 2;
    if (ms > ING_RETRY_MAX_MS)
        ms = ING_RETRY_MAX_MS;
    return ms / 2 + (int64_t)(kl_env_draw(i->env) % (uint64_t)ms);     /* nobody in step */
}

void ing_partition_init(struct ing_partition *p, struct ing_ingestor *i, uint32_t number,
                        struct ing_shard *shard)
{
    p->i = i;
    p->number = number;
    p->shard = shard;
    p->assign.run = ing_partition_assign;
    p->empty = true;
    p->last_tenant = UINT32_MAX;
    p->stored_samples = UINT64_MAX;
    kl_fail(&p->words, KL_EAGAIN, "not assigned to this ingestor");
}

void ing_partition_empty(struct ing_partition *p)
{
    while (p->jobs != NULL) {
        struct ing_job *j = p->jobs;

        p->jobs = j->next;
        ing_job_free(j);
    }
    p->jobs_last = NULL;
    p->job_count = 0;
    ing_deletions_drop(p->deleting, p->deleting_count);
    p->deleting = NULL;
    p->deleting_count = 0;
    p->clean_number = 0;
    ing_found_drop(p);                                 /* it knows heads */
    ing_snap_discard(p);
    tsp_record_reader_free(p->reads);
    kl_buf_deinit(&p->scratch);
    blk_manifest_deinit(&p->manifest);
    p->manifest = (struct blk_manifest){ 0 };
    p->reads = NULL;
    p->applied = p->replay_end = p->applied_hash = p->check_seq = p->again_end = 0;
    p->snap_bytes = p->snap_samples = 0;
    p->snap_again_ns = 0;
    p->snap_failures = 0;
    p->stored_samples = UINT64_MAX;
    p->sample_count = p->late_writes = 0;
    p->purge_count = p->old_count = 0;
    p->tidy_again_ns = p->tidy_seen_until_ns = 0;
    p->tidy_failures = 0;
    p->checked = false;
    p->cut_err = (struct kl_err){ 0 };
    ing_metrics_collect(p);
}

void ing_partition_deinit(struct ing_partition *p)
{
    ing_pass_free(p);
    ing_partition_empty(p);
    while (p->appends != NULL) {
        struct ing_append *a = p->appends;

        p->appends = a->next;
        kl_buf_deinit(&a->bytes);
        free(a);
    }
    while (p->waits != NULL) {
        struct ing_wait *w = p->waits;

        p->waits = w->next;
        free(w);
    }
    while (p->cleans != NULL) {
        struct ing_wait *w = p->cleans;

        p->cleans = w->next;
        free(w);
    }
    ing_census_free(p);
    blk_manifest_deinit(&p->loaded);
    free(p->olds);
    free(p->thinned);
    ing_load_leave(p);
}

/* ---- reading ---- */

static void stop_reading(struct ing_partition *p)
{
    if (p->reading)
        p->i->bus->read_close(p->i->bus, &p->reader);
    p->reading = false;
}

/* What waits for the log would wait for ever. */
static void refuse_all(struct ing_partition *p)
{
    ing_asks_end(p, KL_EAGAIN, p->words.text);
    while (p->waits != NULL) {
        struct ing_wait *w = p->waits;

        p->waits = w->next;
        ing_wait_end(w, KL_EAGAIN, &p->words);
    }
    while (p->cleans != NULL) {
        struct ing_wait *w = p->cleans;

        p->cleans = w->next;
        ing_wait_end(w, KL_EAGAIN, &p->words);
    }
}

void ing_partition_break(struct ing_partition *p, const struct kl_err *err)
{
    stop_reading(p);
    ing_pass_end(p);
    p->words = *err;
    atomic_store(&p->state, ING_BROKEN);
    kl_count(p->i->m.alarms, 1);
    kl_logf(p->i->o.log, KL_ERROR, "ingestor: ALARM: partition %" PRIu32 " stopped at record %"
            PRIu64 ": %s", p->number, p->applied, err->text);
    refuse_all(p);
    ing_metrics_collect(p);
}

/* All that is held goes, and the catalogue and the log are read from the start. */
void ing_partition_anew(struct ing_partition *p, const char *words)
{
    stop_reading(p);
    ing_pass_end(p);
    kl_fail(&p->words, KL_EAGAIN, "%s", words);
    atomic_store(&p->state, ING_REPLAYING);
    p->reload = true;
    refuse_all(p);
}

/* The record that the snapshot ended with must be the one that it was made from: a log that lost
 * its end to a power cut may have gone on with others. */
static bool is_other(struct ing_partition *p, const struct kl_bus_record *rec)
{
    struct kl_err err;

    if (rec->seq != p->check_seq)
        return false;
    p->check_seq = 0;
    if (kl_hash64(rec->bytes.at, rec->bytes.size) == p->check_hash)
        return false;
    kl_fail(&err, KL_ECORRUPT, "record %" PRIu64 " is not the one that the snapshot was made from",
            rec->seq);
    ing_snap_doubt(p, &err);
    return true;
}

static void record(struct kl_bus_reader *r, const struct kl_bus_record *rec)
{
    struct ing_partition *p = kl_container_of(r, struct ing_partition, reader);
    struct kl_err         err = { 0 };
    int64_t               begin_ns = rec->trace.on ? kl_env_mono_ns(p->i->env) : 0;

    if (atomic_load(&p->state) == ING_BROKEN || p->damaged)
        return;
    if (rec->incarnation == p->incarnation && p->check_seq != 0) {
        bool known = rec->seq == p->check_seq && rec->seq == p->applied;

        if (is_other(p, rec) || known)
            return;
    }
    if (rec->incarnation != p->incarnation)
        kl_fail(&err, KL_ECORRUPT, "record %" PRIu64 " is of incarnation %" PRIu64 ", not %" PRIu64,
                rec->seq, rec->incarnation, p->incarnation);
    else if (rec->seq != p->applied + 1)
        kl_fail(&err, KL_ECORRUPT, "record %" PRIu64 " follows record %" PRIu64, rec->seq,
                p->applied);
    else if (rec->repeat || ing_skips_has(p, rec->seq))
        ing_log_pass(p, rec);
    else if (ing_apply(p, rec, &err) == KL_OK)
        err.code = KL_OK;
    else if (err.code == KL_ECORRUPT)
        ing_skips_bad(p, rec);
    if (err.code == KL_OK && ing_digest_is_other(p))
        return;
    if (err.code != KL_OK) {
        ing_partition_break(p, &err);
        return;
    }
    if (ing_skips_has(p, rec->seq))
        kl_count(p->i->m.skipped, 1);
    kl_count(rec->repeat ? p->i->m.repeats : p->i->m.records, 1);
    ing_log_applied(p);
    if (rec->trace.on)
        ing_told_record(p, rec, begin_ns);
    atomic_store_explicit(&p->m_behind, rec->behind, memory_order_relaxed);
    if (atomic_load(&p->state) == ING_REPLAYING)
        kl_count(p->i->m.replayed, 1);
    if (ing_snap_damaged(p))
        return;
    if (p->asks != NULL)
        ing_asks_check(p);
    if (p->waits != NULL)
        ing_flush_check(p, NULL);
}

static void caught_up(struct kl_bus_reader *r, uint64_t last_seq)
{
    struct ing_partition *p = kl_container_of(r, struct ing_partition, reader);

    (void)last_seq;
    if (atomic_load(&p->state) != ING_REPLAYING || p->applied < p->replay_end)
        return;
    ing_log_fresh(p, p->info_ns);
    atomic_store(&p->state, ING_LIVE);
    p->words = (struct kl_err){ 0 };
    kl_logf(p->i->o.log, KL_DEBUG, "ingestor: partition %" PRIu32 " is live, %" PRIu64
            " records applied", p->number, p->applied);
    ing_metrics_collect(p);
}

/* Everything that is held goes into the catalogue under the old incarnation; then all is loaded
 * anew, which finds the new one and commits it. */
static void foreign(struct ing_partition *p, uint64_t incarnation)
{
    struct tsp_cut all = { .window_ms = 0, .epoch = p->epoch_seen, .format = ING_FORMAT };

    stop_reading(p);
    ing_pass_end(p);
    atomic_store(&p->going_over, true);
    kl_count(p->i->m.alarms, 1);
    kl_count(p->i->m.anew, 1);
    p->logmark.lost = (struct tsp_lost){ .incarnation = p->incarnation, .first_seq = p->applied + 1,
                                      .from_ms = p->record_time_ms };
    kl_logf(p->i->o.log, KL_ERROR, "ingestor: ALARM: partition %" PRIu32 ": the log was made anew "
            "(incarnation %" PRIu64 " in place of %" PRIu64 "): records after %" PRIu64
            " of the old one are lost; sealing what is held", p->number, incarnation,
            p->incarnation, p->applied);
    kl_fail(&p->words, KL_EAGAIN, "the log was made anew; what was held is being sealed");
    atomic_store(&p->state, ING_REPLAYING);
    p->reload = true;
    refuse_all(p);
    ing_cut_read(p, &all, p->applied + 1);             /* its own id: no record will ever have it */
    ing_job_start(p);
}

static void broken(struct kl_bus_reader *r, enum kl_code code, uint64_t incarnation,
                   uint64_t first_seq, const struct kl_err *err)
{
    struct ing_partition *p = kl_container_of(r, struct ing_partition, reader);
    struct kl_err         said = *err;

    if (atomic_load(&p->state) == ING_BROKEN)
        return;
    if (code == KL_ECORRUPT && incarnation != 0 && incarnation != p->incarnation) {
        foreign(p, incarnation);
        return;
    }
    if (code == KL_ENOENT && p->i->member != NULL && first_seq - 1 <= p->manifest.replay_from) {
        kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": records %" PRIu64 " to %" PRIu64
                " were purged before they were applied here; beginning anew from the catalogue",
                p->number, p->applied + 1, first_seq - 1);
        ing_partition_anew(p, "the log was purged beyond what was applied; the catalogue is read anew");
        return;
    }
    if (code == KL_ENOENT)
        kl_fail(&said, code, "records %" PRIu64 " to %" PRIu64 " were purged before they were "
                "applied here", p->applied + 1, first_seq - 1);
    ing_partition_break(p, &said);
}

/* The snapshot holds what no cut took of the accepted log, which is no more: it is sealed. */
static bool is_of_the_lost(struct ing_partition *p, const struct kl_bus_info *log)
{
    const struct ing_restored *r = &p->restored;
    uint64_t accepted = ing_logmark_accepted(p, &p->manifest);

    return r->is && accepted != 0 && accepted != log->incarnation && p->incarnation == accepted &&
           !blk_manifest_covers(&p->manifest, r->seq_end, INT64_MAX - 1);
}

/* Does what was restored belong to the log as it is? Its heads go where it does not. */
static void restored(struct ing_partition *p, const struct kl_bus_info *log)
{
    struct ing_restored *r = &p->restored;

    if (r->is && (p->incarnation != log->incarnation || r->seq_end > log->last_seq ||
                  r->seq + 1 < log->first_seq)) {
        kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": the snapshot stands for "
                "records up to %" PRIu64 " of incarnation %" PRIu64 ", but the log has %" PRIu64
                " to %" PRIu64 " of %" PRIu64 ": it is not used", p->number, r->seq_end,
                p->incarnation, log->first_seq, log->last_seq, log->incarnation);
        ing_tenants_free(p);
        *r = (struct ing_restored){ 0 };
    }
    if (!r->is)
        return;
    kl_count(p->i->m.restored, 1);
    p->applied = r->seq;
    p->snap_samples = p->sample_count;
    p->again_end = r->seq_end;
    for (uint32_t t = 0; t < p->tenant_count; t++)
        p->tenants[t].head->again = true;
    if (r->seq_end >= log->first_seq && r->seq_end > 0) {
        p->check_seq = r->seq_end;
        p->check_hash = r->hash_end;
        p->digest.check_seq = r->seq_end > r->seq ? r->seq_end : 0;
    }
    kl_logf(p->i->o.log, KL_DEBUG, "ingestor: partition %" PRIu32 " restored as of record %" PRIu64,
            p->number, r->seq);
}

void ing_loaded(struct ing_partition *p)
{
    const struct kl_bus_info *log = &p->info;
    struct kl_err             err = { 0 };
    bool                      foreign_log;

    if (p->i->member != NULL && p->pointer_revision == 0 && log->first_seq > p->restored.seq + 1) {
        kl_fail(&err, KL_EAGAIN, "records 1 to %" PRIu64 " were purged, and the KV has no pointer of the "
                "catalogue: its owner puts it again, or koalemos catalog rebuild does", log->first_seq - 1);
        ing_load_failed(p, &err);
        return;
    }
    blk_manifest_deinit(&p->manifest);
    p->manifest = p->loaded;
    p->loaded = (struct blk_manifest){ 0 };
    p->empty = false;
    p->load_failures = 0;
    if (is_of_the_lost(p, log)) {
        p->manifest.incarnation = p->incarnation;
        p->applied = p->restored.seq_end;
        p->record_time_ms = p->restored.time_ms;
        foreign(p, log->incarnation);
        return;
    }
    restored(p, log);
    if (!p->restored.is)
        p->cut_end_ms = INT64_MIN;
    if (p->epoch_seen < p->manifest.epoch)
        p->epoch_seen = p->manifest.epoch;
    atomic_store(&p->m_epoch_seen, p->epoch_seen);
    for (uint32_t k = 0; k < p->manifest.cut_count; k++)
        if (p->manifest.cuts[k].end_ms != INT64_MAX && p->manifest.cuts[k].end_ms > p->cut_end_ms)
            p->cut_end_ms = p->manifest.cuts[k].end_ms;
    foreign_log = (p->pointer_revision != 0 && p->manifest.incarnation != log->incarnation) ||
                  (p->logmark.is.incarnation != 0 && p->logmark.is.incarnation != log->incarnation);
    p->incarnation = log->incarnation;
    if (foreign_log) {
        struct ing_job *j = kl_new(sizeof *j);

        atomic_store(&p->going_over, true);
        kl_count(p->i->m.alarms, 1);
        if (p->logmark.lost.incarnation != p->logmark.is.incarnation)
            kl_count(p->i->m.anew, 1);                 /* else the reader that found it did */
        kl_logf(p->i->o.log, KL_ERROR, "ingestor: ALARM: partition %" PRIu32 ": the log is of "
                "incarnation %" PRIu64 ", the catalogue of %" PRIu64 ": records from %" PRIu64
                " of the old one are lost where no fileset has them; reading the new one from 1",
                p->number, log->incarnation, p->manifest.incarnation, p->manifest.replay_from);
        j->p = p;
        j->step = ING_PUT;
        j->adopt = log->incarnation;
        kl_fail(&p->words, KL_EAGAIN, "the log was made anew; the catalogue is being told");
        atomic_store(&p->state, ING_REPLAYING);
        ing_job_queue(j);
        return;
    }
    atomic_store(&p->going_over, false);
    p->manifest.incarnation = log->incarnation;
    if (!p->restored.is)
        p->applied = p->manifest.replay_from - 1;
    ing_marks_reset(&p->marks, p->applied);
    ing_digest_loaded(p);
    ing_local_loaded(p);
    p->replay_end = log->last_seq;
    if (log->first_seq > p->applied + 1) {
        kl_fail(&err, KL_ENOENT, "records %" PRIu64 " to %" PRIu64 " were purged, but no fileset "
                "has them", p->applied + 1, log->first_seq - 1);
        ing_partition_break(p, &err);
        return;
    }
    if (log->last_seq < p->applied) {
        kl_fail(&err, KL_ECORRUPT, "the log ends at record %" PRIu64 ", but filesets hold records "
                "up to %" PRIu64 ": it was rolled back", log->last_seq, p->applied);
        ing_partition_break(p, &err);
        return;
    }
    if (p->manifest.replay_from > 1) {                 /* whatever a snapshot has: see snap_priv.h */
        p->purges[0].seq = p->manifest.replay_from - 1;
        p->purges[0].at_ms = kl_env_now_ms(p->i->env) + p->i->o.log_keep_ms;
        p->purge_count = 1;
    }
    kl_fail(&p->words, KL_EAGAIN, "replaying the log up to record %" PRIu64, p->replay_end);
    atomic_store(&p->state, ING_REPLAYING);
    p->reads = tsp_record_reader_new();
    p->reader = (struct kl_bus_reader){ .partition = p->number, .from_seq = p->applied + (p->check_seq == 0 || p->check_seq > p->applied),
                                        .loop = p->shard->loop, .record = record,
                                        .caught_up = caught_up, .broken = broken, .end = ing_log_end };
    p->reading = true;
    p->i->bus->read_open(p->i->bus, &p->reader);
}

/* ---- coming and going ---- */

/* Whoever wants the owner asks the partition's subject; every member has one of its own beside. */
static void serve_as_owner(struct ing_partition *p, bool owning)
{
    if (owning == p->owning)
        return;
    p->owning = owning;
    if (p->i->member != NULL)
        ing_peer_serve(p, owning);
    if (!owning) {
        p->i->bus->unserve(p->i->bus, &p->service);
        return;
    }
    p->service = (struct kl_bus_service){ .loop = p->shard->loop, .question = ing_select, .ctx = p };
    tsp_select_subject(p->service.subject, sizeof p->service.subject, p->number);
    p->i->bus->serve(p->i->bus, &p->service);
}

static void serve(struct ing_partition *p)
{
    p->own_service = (struct kl_bus_service){ .loop = p->shard->loop, .question = ing_select,
                                              .ctx = p };
    tsp_select_member(p->own_service.subject, sizeof p->own_service.subject, p->number, p->i->name);
    p->serving = true;
    p->i->bus->serve(p->i->bus, &p->own_service);
    serve_as_owner(p, ing_epoch(p) != 0);
}

static void unserve(struct ing_partition *p)
{
    serve_as_owner(p, false);
    if (p->serving)
        p->i->bus->unserve(p->i->bus, &p->own_service);
    p->serving = false;
}

/* True when nobody works on what it holds. */
static bool quiet(const struct ing_partition *p)
{
    return !p->loading && p->rendering == 0 && !p->purging && p->appends == NULL &&
           p->ask_count == 0 && p->tidy == NULL && p->pass == NULL && !p->follow.out &&
           !p->logmark.out && !p->skips.out && !p->digest.out && (p->jobs == NULL || !p->jobs->out) && p->peers_served == 0;
}

static void come(struct ing_partition *p)
{
    if (!p->empty || p->loading)
        return;                                        /* still leaving: the tick tries again */
    atomic_store(&p->state, ING_LOADING);
    kl_fail(&p->words, KL_EAGAIN, "reading the catalogue");
    if (!p->serving)
        serve(p);
    p->load_failures = 0;
    ing_load(p);
}

static void leave(struct ing_partition *p)
{
    stop_reading(p);
    ing_pass_end(p);
    unserve(p);
    p->reload = p->store_fetched = false;
    atomic_store(&p->going_over, false);
    kl_fail(&p->words, KL_EAGAIN, "not assigned to this ingestor");
    atomic_store(&p->state, ING_AWAY);
    refuse_all(p);
}

void ing_partition_assign(struct kl_env_task *task)
{
    struct ing_partition *p = kl_container_of(task, struct ing_partition, assign);
    bool wanted = atomic_load(&p->wanted), away = atomic_load(&p->state) == ING_AWAY;

    if (ing_stopping(p))
        return;
    if (wanted && away)
        come(p);
    else if (!wanted && !away)
        leave(p);
}

void ing_partition_tick(struct ing_partition *p)
{
    int     state = atomic_load(&p->state);
    int64_t now_ns = kl_env_mono_ns(p->i->env);

    if (state == ING_AWAY && !p->empty && quiet(p)) {
        ing_partition_empty(p);
        ing_load_leave(p);
        p->empty = true;
    }
    if (atomic_load(&p->wanted) != (state != ING_AWAY))
        ing_partition_assign(&p->assign);
    ing_digest_tick(p);
    ing_repair_tick(p);
    if (state == ING_LOADING && !p->loading && now_ns >= p->load_again_ns)
        ing_load(p);
    if (state == ING_AWAY || state == ING_LOADING)
        return;
    ing_snap_damaged(p);
    /* Jobs that wait for an owner go as well: what they seal is in the log, unless that is another. */
    if (p->reload && (p->jobs == NULL || p->damaged || !atomic_load(&p->going_over)) && quiet(p)) {
        p->reload = false;
        ing_partition_empty(p);
        p->empty = true;
        come(p);
        return;
    }
    if (p->serving && p->i->member != NULL)
        serve_as_owner(p, ing_epoch(p) != 0);
    if (p->asks != NULL)
        ing_asks_check(p);
    ing_found_tick(p, now_ns);
    if (state != ING_BROKEN) {
        ing_follow_tick(p);
        ing_jobs_tick(p);
        ing_tidy_tick(p);
        ing_cut_tick(p);
        ing_pass_tick(p);
        ing_clean_tick(p);
        ing_local_tick(p);
    }
    if (state == ING_BROKEN)
        ing_skips_tick(p);
    if (state == ING_LIVE && !p->reload && ing_epoch(p) != 0)
        ing_logmark_is(p, p->incarnation);
    if (state == ING_LIVE)
        ing_census_tick(p, now_ns);
    for (uint32_t t = 0; t < p->tenant_count; t++) {
        struct ing_head *h = p->tenants[t].head;

        if (p->rendering == 0 && !ing_pass_reads(p))
            ing_chunks_bury(h);
        if (state == ING_LIVE)
            ing_head_seal_idle(h, h->made / (IDLE_MS / ING_TICK_MS) + 1);
    }
    ing_metrics_collect(p);
}

void ing_partition_stop(struct ing_partition *p)
{
    if (atomic_load(&p->state) != ING_AWAY)
        leave(p);
}
