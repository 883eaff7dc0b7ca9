/* The doorman: its gates, and what any thread may ask of it. */
#include "doorman/dm_priv.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

enum { GATES_MAX = 64 };

static void defaults(struct dm_options *o)
{
    if (o->gates == 0)
        o->gates = 1;
    if (o->gates > GATES_MAX)
        o->gates = GATES_MAX;
    if (o->partition_inflight_bytes_max == 0)
        o->partition_inflight_bytes_max = 16 << 20;
    if (o->inflight_bytes_max == 0)
        o->inflight_bytes_max = 256 << 20;
    if (o->delta_bytes_max == 0)
        o->delta_bytes_max = 64 << 20;
    if (o->append_timeout_ms == 0)
        o->append_timeout_ms = 10000;
    if (o->influx_separator == NULL)
        o->influx_separator = "_";
    if (o->influx_db_label == NULL)
        o->influx_db_label = "";
}

static void count_all(struct dm_doorman *d, struct kl_metrics *m)
{
    static const char *const all[DM_COUNTERS][2] = {
        [DM_C_SAMPLES] = { "koalemos_doorman_samples_total", "Float samples acknowledged." },
        [DM_C_HISTS] = { "koalemos_doorman_histograms_total", "Native histograms acknowledged." },
        [DM_C_EXEMPLARS] = { "koalemos_doorman_exemplars_total", "Exemplars acknowledged." },
        [DM_C_METADATA] = { "koalemos_doorman_metadata_total", "Metadata of metrics put into records." },
        [DM_C_HITS] = { "koalemos_doorman_remembered_hits_total",
                        "Series of pushes that were remembered." },
        [DM_C_MISSES] = { "koalemos_doorman_remembered_misses_total",
                          "Series of pushes that had to be inspected." },
        [DM_C_EVICTED] = { "koalemos_doorman_remembered_evicted_total",
                           "Remembered series that gave way to others." },
        [DM_C_DEFINITIONS] = { "koalemos_doorman_definitions_total", "Definitions put into records." },
        [DM_C_RECORDS] = { "koalemos_doorman_records_total", "Records closed." },
        [DM_C_RECORD_BYTES] = { "koalemos_doorman_record_bytes_total", "Bytes of records, as appended." },
        [DM_C_RETRIES] = { "koalemos_doorman_append_retries_total", "Appends tried again." },
        [DM_C_FAILED] = { "koalemos_doorman_records_failed_total", "Records given up: answered 503." },
        [DM_C_PUSHES] = { "koalemos_doorman_pushes_total", "Pushes taken in." },
        [DM_C_TURNED_AWAY] = { "koalemos_doorman_pushes_turned_away_total",
                               "Pushes refused at once: too much in flight." },
        [DM_C_FULL] = { "koalemos_doorman_pushes_full_total",
                        "Pushes refused because too much of their tenant is in flight: answered 429." },
        [DM_C_RESUMED] = { "koalemos_doorman_pushes_resumed_total",
                           "Pushes sent again of which the log had a part: only the rest was written." },
        [DM_C_LIMITED] = { "koalemos_doorman_pushes_limited_total",
                           "Pushes refused for their tenant's rate: answered 429." },
        [DM_C_TEXTS] = { "koalemos_doorman_influx_texts_total",
                         "Fields of Influx lines left out because they are texts." },
        [DM_C_DROPPED] = { "koalemos_doorman_dropped_total", "Samples that a relabelling rule dropped." },
        [DM_C_DEDUPLICATED] = { "koalemos_doorman_deduplicated_total",
                                "Samples passed over because another replica leads their HA pair." },
    };
    static const double bounds[] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5,
                                     5, 10 };
    struct dm_counters *c = &d->counters;
    char label[64];

    for (int i = 0; i < DM_COUNTERS; i++)
        c->c[i] = m == NULL ? &c->unseen
                            : kl_metrics_add(m, KL_COUNTER, all[i][0], "", all[i][1]);
    for (int i = 0; i < DM_REASONS; i++) {
        snprintf(label, sizeof label, "reason=\"%s\"", dm_reason_name((enum dm_reason)i));
        c->by_reason[i] = m == NULL || i == DM_GOOD ? &c->unseen
            : kl_metrics_add(m, KL_COUNTER, "koalemos_doorman_refused_total", label,
                             "Samples, lines and metadata refused, by reason.");
    }
    c->doormen = m == NULL ? &c->unseen
        : kl_metrics_add(m, KL_GAUGE, "koalemos_doorman_doormen", "", "Doormen that live, this one too.");
    kl_gauge_set(c->doormen, 1);
    if (m != NULL)
        c->push_seconds = kl_metrics_hist(m, "koalemos_doorman_push_seconds", "",
                                          "From a push's arrival at its gate to its answer.", bounds,
                                          sizeof bounds / sizeof bounds[0]);
}

struct kl_metric *dm_gate_gauge(struct dm_doorman *d, unsigned gate, const char *name, const char *help)
{
    char label[24];

    snprintf(label, sizeof label, "gate=\"%u\"", gate);
    return d->options.metrics == NULL ? &d->counters.unseen
                                      : kl_metrics_add(d->options.metrics, KL_GAUGE, name, label, help);
}

uint32_t dm_log_replicas(const struct dm_doorman *d) { return d->options.log_replicas; }

struct dm_doorman *dm_new(struct kl_env *env, struct kl_bus *bus, const struct dm_options *options)
{
    struct dm_doorman *d = kl_new(sizeof *d);

    d->env = env;
    d->bus = bus;
    d->options = *options;
    defaults(&d->options);
    dm_reload_begin(d);
    d->shares = dm_shares_new();
    atomic_store(&d->doormen, 1);
    d->inflight.cap_bytes = (size_t)d->options.inflight_bytes_max;
    count_all(d, options->metrics);
    d->gate_count = d->options.gates;
    d->gates = kl_new(d->gate_count * sizeof d->gates[0]);
    for (unsigned i = 0; i < d->gate_count; i++)
        d->gates[i] = dm_gate_new(d, i);
    return d;
}

void dm_free(struct dm_doorman *d)
{
    if (d == NULL)
        return;
    for (unsigned i = 0; i < d->gate_count; i++)
        dm_gate_free(d->gates[i]);
    free(d->gates);
    dm_shares_free(d->shares);
    dm_reload_end(d);
    free(d);
}

static void turn_away(struct dm_doorman *d, struct dm_push *p, unsigned status, const char *why)
{
    kl_count(d->counters.c[status == 429 ? DM_C_FULL : DM_C_TURNED_AWAY], 1);
    if (p->share != NULL)
        atomic_fetch_sub(&p->share->inflight_bytes, p->charged);
    p->share = NULL;
    free(p->body);
    p->body = NULL;
    p->status = status;
    p->retry_after_s = status == 413 ? 0 : 1;
    snprintf(p->text, sizeof p->text, "%s", why);
    p->done(p);
}

/* A tenant's bytes in flight, over all gates. One push is always let in: else one that is larger than
 * the bound could never pass. */
static bool charge(struct dm_doorman *d, struct dm_push *p)
{
    struct kl_span tenant = kl_span_str(p->tenant);
    uint64_t       most = dm_limits_of(d, tenant).inflight_bytes_max;
    size_t         before;

    p->share = dm_share_of(d->shares, tenant, kl_hash64(tenant.at, tenant.size));
    p->charged = p->body_size;
    before = atomic_fetch_add(&p->share->inflight_bytes, p->charged);
    return most == 0 || before == 0 || before + p->charged <= most;
}

/* Bodies that are not yet read, and records that are not yet in the log. */
static bool reserve(struct dm_doorman *d, size_t size)
{
    if (!kl_budget_take(&d->inflight, size))
        return false;
    if (atomic_load(&d->inflight.used_bytes) + atomic_load(&d->record_bytes) <= d->inflight.cap_bytes)
        return true;
    kl_budget_give(&d->inflight, size);
    return false;
}

void dm_push(struct dm_doorman *d, unsigned connection, struct dm_push *p)
{
    struct dm_gate *g = d->gates[connection % d->gate_count];

    p->samples_stored = p->hists_stored = p->exemplars_stored = p->refused = 0;
    p->deduplicated = false;
    p->samples_passed_over = p->hists_passed_over = p->exemplars_passed_over = 0;
    p->points_refused = 0;
    p->retry_after_s = 0;
    p->text[0] = '\0';
    if (!charge(d, p)) {
        turn_away(d, p, 429, "more bytes in flight than limits.inflight_bytes_max\n");
        return;
    }
    if (p->body_size > d->inflight.cap_bytes) {        /* however often it comes */
        turn_away(d, p, 413, "the body is larger than doorman.inflight_bytes_max\n");
        return;
    }
    if (!reserve(d, p->body_size)) {
        turn_away(d, p, 503, "too many bytes wait for the log already\n");
        return;
    }
    p->gate = g;
    p->task.run = dm_gate_take;
    if (!d->env->sched->offer(g->loop, &p->task)) {
        kl_budget_give(&d->inflight, p->body_size);
        turn_away(d, p, 503, "too many pushes wait already\n");
        return;
    }
    kl_count(d->counters.c[DM_C_PUSHES], 1);
}

enum kl_code dm_clock_check(const _Atomic int64_t *off_ms, struct kl_err *err)
{
    int64_t off = atomic_load(off_ms);

    if (off == DM_CLOCK_UNKNOWN)
        return kl_fail(err, KL_EAGAIN, "its clock has not been compared with those of the ingestors yet");
    if (off != 0)
        return kl_fail(err, KL_EINVAL, "the clock of this machine is %lld s off those of most ingestors",
                       -(long long)(off / 1000));
    return KL_OK;
}

bool dm_ready(struct dm_doorman *d, struct kl_err *err)
{
    if (!d->bus->healthy(d->bus, err))
        return false;
    if (d->options.clock_off_ms != NULL && dm_clock_check(d->options.clock_off_ms, err) != KL_OK) {
        kl_within(err, "doorman");
        return false;
    }
    for (unsigned i = 0; i < d->gate_count; i++)
        if (!atomic_load(&d->gates[i]->placed)) {
            kl_fail(err, KL_EAGAIN, "doorman: the placement table is not known yet");
            return false;
        } else if (atomic_load(&d->gates[i]->too_many) > 0) {
            kl_fail(err, KL_EAGAIN, "doorman: there are %u partitions and room for %u: restart it with "
                    "partitions: %u", atomic_load(&d->gates[i]->too_many), d->options.partitions,
                    atomic_load(&d->gates[i]->too_many));
            return false;
        } else if (d->gates[i]->ha != NULL && !dm_ha_known(d->gates[i]->ha)) {
            kl_fail(err, KL_EAGAIN, "doorman: the leaders of HA pairs are not known yet");
            return false;
        }
    return true;
}
