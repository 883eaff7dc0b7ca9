/* What an ingestor shows of itself. Partitions publish their numbers on their loops; the first
 * shard's tick adds them up. */
#include "ingestor/ing_priv.h"

#include <stdio.h>

static struct kl_metric *counter(struct ing_ingestor *i, const char *name, const char *help)
{
    return kl_metrics_add(i->o.metrics, KL_COUNTER, name, "", help);
}

static struct kl_metric *gauge(struct ing_ingestor *i, const char *name, const char *help)
{
    return kl_metrics_add(i->o.metrics, KL_GAUGE, name, "", help);
}

void ing_metrics_init(struct ing_ingestor *i)
{
    static const char *const kinds[ING_MEM_KINDS] = { "series", "labels", "postings", "tails",
                                                      "chunks", "late", "refs", "other" };
    struct ing_counters *m = &i->m;

    m->records = counter(i, "koalemos_ingestor_records_total", "Records applied from the log");
    m->repeats = counter(i, "koalemos_ingestor_repeats_total",
                         "Records passed over because the log had them just before");
    m->cuts = counter(i, "koalemos_ingestor_cuts_total", "Cuts obeyed");
    m->flushes = counter(i, "koalemos_ingestor_flushes_total", "Catalogue commits");
    m->filesets = counter(i, "koalemos_ingestor_filesets_total", "Filesets written and uploaded");
    m->compactions = counter(i, "koalemos_ingestor_compactions_total", "Merges of filesets committed");
    m->compacted = counter(i, "koalemos_ingestor_filesets_compacted_total",
                           "Filesets that merges took the place of");
    m->compacted_samples = counter(i, "koalemos_ingestor_compacted_samples_total",
                                   "Samples written by merges");
    m->expired = counter(i, "koalemos_ingestor_filesets_expired_total",
                         "Filesets dropped past their retention");
    m->quarantined = counter(i, "koalemos_ingestor_filesets_quarantined_total",
                             "Filesets found corrupt and marked so");
    m->deletions = counter(i, "koalemos_ingestor_deletions_total", "Deletions read from the log");
    m->rewritten = counter(i, "koalemos_ingestor_filesets_rewritten_total",
                           "Filesets rewritten for no other reason than what was deleted from them");
    m->deletions_pending = gauge(i, "koalemos_ingestor_deletions_pending",
                                 "Deletions, by partition, that some fileset has yet to be rewritten for");
    m->orphan_filesets = counter(i, "koalemos_ingestor_orphan_filesets_total",
                                 "Filesets found in the store that nothing names, to be removed.");
    m->swept = counter(i, "koalemos_ingestor_filesets_removed_total",
                       "Replaced or expired filesets removed from the store");
    m->evicted = counter(i, "koalemos_ingestor_filesets_evicted_total",
                         "Local copies of filesets removed: too old, or replaced");
    m->leftovers = counter(i, "koalemos_ingestor_filesets_leftover_total",
                           "Filesets that a crash left unfinished or uncommitted, removed at the start");
    m->tidy_failures = counter(i, "koalemos_ingestor_housekeeping_failures_total",
                               "Merges that failed and are tried again");
    m->disk_used = gauge(i, "koalemos_ingestor_disk_used_ratio", "How full the data folder's disk is");
    m->disk_full = gauge(i, "koalemos_ingestor_disk_full", "Whether it is past its high-water mark");
    m->flush_failures = counter(i, "koalemos_ingestor_flush_failures_total",
                                "Steps of a flush that failed and are tried again");
    m->unknown_refs = counter(i, "koalemos_ingestor_unknown_refs_total",
                              "Runs of samples whose ref had no definition yet");
    m->repairs = counter(i, "koalemos_ingestor_repairs_total",
                         "Partitions made anew from the catalogue and the log: not as their owner's, or on a wish");
    m->extras_dropped = counter(i, "koalemos_ingestor_extras_dropped_total",
                                "Exemplars and metadata of metrics for which a tenant's head had no room");
    m->alarms = counter(i, "koalemos_ingestor_alarms_total",
                        "Partitions stopped, logs found made anew, members found to differ");
    m->compared = counter(i, "koalemos_ingestor_cuts_compared_total",
                          "Cuts that sealed the same at two members of their partition");
    m->differences = counter(i, "koalemos_ingestor_cuts_differing_total",
                             "Cuts before which another member was given other records, or held other samples");
    m->differ = gauge(i, "koalemos_ingestor_partitions_differing",
                      "Partitions that another member holds otherwise, by the last cuts");
    m->selects = counter(i, "koalemos_ingestor_selects_total", "Questions");
    m->select_pages = counter(i, "koalemos_ingestor_select_pages_total", "Pages answered");
    m->select_bytes = counter(i, "koalemos_ingestor_select_bytes_total", "Bytes answered");
    m->select_refused = counter(i, "koalemos_ingestor_selects_refused_total", "Questions refused");
    m->partials = counter(i, "koalemos_ingestor_aggregates_total", "Aggregates made for queriers, in place of series");
    m->partials_refused = counter(i, "koalemos_ingestor_aggregates_refused_total",
                                  "Aggregates that could not be made here: the series are sent instead");
    m->partials_stopped = counter(i, "koalemos_ingestor_aggregates_stopped_total",
                                  "Aggregates not made to the end because their querier did not want them any more");
    m->skipped = counter(i, "koalemos_ingestor_records_skipped_total",
                         "Records passed over because an operator said so");
    m->anew = counter(i, "koalemos_ingestor_logs_made_anew_total",
                      "Logs found to be another incarnation than the accepted one");
    m->series = gauge(i, "koalemos_ingestor_series", "Series in memory");
    m->samples = gauge(i, "koalemos_ingestor_samples_applied", "Samples read from the log");
    m->late = gauge(i, "koalemos_ingestor_samples_late", "Samples applied out of order");
    m->equal = gauge(i, "koalemos_ingestor_samples_equal", "Samples that were there already");
    m->applied_lag = gauge(i, "koalemos_ingestor_replay_records_left",
                           "Records between what is applied and the log's end as of the start");
    m->orphans = gauge(i, "koalemos_ingestor_undefined_bytes",
                       "Bytes of samples that wait for a definition");
    m->partitions = gauge(i, "koalemos_ingestor_partitions", "Partitions served");
    m->broken = gauge(i, "koalemos_ingestor_partitions_broken", "Partitions stopped by an alarm");
    m->jobs = gauge(i, "koalemos_ingestor_flushes_pending", "Cuts not yet in the catalogue");
    m->replayed = counter(i, "koalemos_ingestor_replayed_records_total",
                          "Records applied before their partition was live");
    m->snapshots = counter(i, "koalemos_ingestor_snapshots_total", "Snapshots published");
    m->snapshot_failures = counter(i, "koalemos_ingestor_snapshot_failures_total",
                                   "Snapshots that could not be made; the last one stays");
    m->from_peer = counter(i, "koalemos_ingestor_snapshots_from_peer_total",
                           "Snapshots of partitions that came from their owner");
    m->from_store = counter(i, "koalemos_ingestor_snapshots_from_store_total",
                            "Snapshots of partitions that came from the object storage");
    m->stored = counter(i, "koalemos_ingestor_snapshots_stored_total", "Snapshots put into the object storage");
    m->stored_bytes = counter(i, "koalemos_ingestor_snapshots_stored_bytes_total", "Bytes of these");
    m->store_failures = counter(i, "koalemos_ingestor_snapshot_store_failures_total",
                                "Snapshots that could not be put into the object storage");
    m->restored = counter(i, "koalemos_ingestor_snapshots_restored_total",
                          "Partitions that began with their snapshot");
    m->set_aside = counter(i, "koalemos_ingestor_snapshots_set_aside_total",
                           "Snapshots found damaged: the log was replayed in their place");
    m->snapshot_bytes = gauge(i, "koalemos_ingestor_snapshot_bytes",
                              "Bytes of the snapshots' heads, without the spilled chunks");
    m->spilled = gauge(i, "koalemos_ingestor_spilled_bytes",
                       "Bytes of sealed chunks that lie in the snapshot's files, not in memory");
    for (int k = 0; k < ING_MEM_KINDS; k++) {
        char labels[64];

        snprintf(labels, sizeof labels, "kind=\"%s\"", kinds[k]);
        m->memory[k] = kl_metrics_add(i->o.metrics, KL_GAUGE, "koalemos_ingestor_memory_bytes",
                                      labels, "Memory of the heads, by kind");
    }
}

void ing_metrics_collect(struct ing_partition *p)
{
    int64_t  bytes[ING_MEM_KINDS] = { 0 }, all = 0;
    uint64_t series = 0, late = 0, equal = 0;

    for (uint32_t t = 0; t < p->tenant_count; t++) {
        const struct ing_head *h = p->tenants[t].head;

        for (int k = 0; k < ING_MEM_KINDS; k++)
            bytes[k] += h->memory.bytes[k];
        bytes[ING_MEM_TAILS] += h->tails.bytes;
        series += h->count;
        late += h->late_samples;
        equal += h->equal_samples;
    }
    for (int k = 0; k < ING_MEM_KINDS; k++) {
        atomic_store_explicit(&p->m_memory[k], bytes[k], memory_order_relaxed);
        all += bytes[k];
    }
    atomic_fetch_add(&p->i->memory, all - p->memory_told);
    p->memory_told = all;
    atomic_store_explicit(&p->m_series, series, memory_order_relaxed);
    atomic_store_explicit(&p->m_samples, p->sample_count, memory_order_relaxed);
    atomic_store_explicit(&p->m_late, late, memory_order_relaxed);
    atomic_store_explicit(&p->m_equal, equal, memory_order_relaxed);
    atomic_store_explicit(&p->m_orphans, p->orphan_bytes, memory_order_relaxed);
    atomic_store_explicit(&p->m_spilled, p->files.live_bytes, memory_order_relaxed);
    atomic_store_explicit(&p->m_snap_bytes, p->snap_bytes, memory_order_relaxed);
    ing_deletions_count(p);
    atomic_store_explicit(&p->m_jobs, p->job_count, memory_order_relaxed);
    atomic_store_explicit(&p->m_lag, p->replay_end > p->applied ? p->replay_end - p->applied : 0,
                          memory_order_relaxed);
}

void ing_metrics_show(struct ing_ingestor *i)
{
    struct ing_counters *m = &i->m;
    int64_t  memory[ING_MEM_KINDS] = { 0 };
    uint64_t series = 0, samples = 0, late = 0, equal = 0, orphans = 0, jobs = 0, lag = 0,
             spilled = 0, snapshot = 0, deletions = 0;
    unsigned served = 0, broken = 0;

    for (uint32_t n = 0; n < i->o.partitions; n++) {
        struct ing_partition *p = &i->partitions[n];
        int                   state = atomic_load(&p->state);

        served += state == ING_LIVE;
        broken += state == ING_BROKEN;
        series += atomic_load_explicit(&p->m_series, memory_order_relaxed);
        samples += atomic_load_explicit(&p->m_samples, memory_order_relaxed);
        late += atomic_load_explicit(&p->m_late, memory_order_relaxed);
        equal += atomic_load_explicit(&p->m_equal, memory_order_relaxed);
        orphans += atomic_load_explicit(&p->m_orphans, memory_order_relaxed);
        jobs += atomic_load_explicit(&p->m_jobs, memory_order_relaxed);
        lag += atomic_load_explicit(&p->m_lag, memory_order_relaxed);
        spilled += atomic_load_explicit(&p->m_spilled, memory_order_relaxed);
        deletions += atomic_load_explicit(&p->m_deletions, memory_order_relaxed);
        snapshot += atomic_load_explicit(&p->m_snap_bytes, memory_order_relaxed);
        for (int k = 0; k < ING_MEM_KINDS; k++)
            memory[k] += atomic_load_explicit(&p->m_memory[k], memory_order_relaxed);
    }
    kl_gauge_set(m->series, (double)series);
    kl_gauge_set(m->samples, (double)samples);
    kl_gauge_set(m->late, (double)late);
    kl_gauge_set(m->equal, (double)equal);
    kl_gauge_set(m->orphans, (double)orphans);
    kl_gauge_set(m->jobs, (double)jobs);
    kl_gauge_set(m->deletions_pending, (double)deletions);
    kl_gauge_set(m->spilled, (double)spilled);
    kl_gauge_set(m->snapshot_bytes, (double)snapshot);
    kl_gauge_set(m->applied_lag, (double)lag);
    kl_gauge_set(m->partitions, served);
    kl_gauge_set(m->broken, broken);
    for (int k = 0; k < ING_MEM_KINDS; k++)
        kl_gauge_set(m->memory[k], (double)memory[k]);
}
