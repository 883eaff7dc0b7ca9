/*
 * How what is applied compares with the log. A reader that waits cannot tell an empty log from one
 * that it does not hear of; so the bus asks, each second, where the log ends.
 */
#include "ingestor/ing_priv.h"

void ing_log_fresh(struct ing_partition *p, int64_t asked_ns)
{
    if (asked_ns > atomic_load_explicit(&p->m_fresh_ns, memory_order_relaxed))
        atomic_store(&p->m_fresh_ns, asked_ns);
}

void ing_log_end(struct kl_bus_reader *r, uint64_t last_seq, int64_t asked_ns)
{
    ing_log_told(kl_container_of(r, struct ing_partition, reader), last_seq, asked_ns);
}

void ing_log_told(struct ing_partition *p, uint64_t last_seq, int64_t asked_ns)
{
    p->end_seq = last_seq;
    p->end_ns = asked_ns;
    if (p->applied >= last_seq)
        ing_log_fresh(p, asked_ns);
    atomic_store_explicit(&p->m_behind, last_seq > p->applied ? last_seq - p->applied : 0,
                          memory_order_relaxed);
}

void ing_log_pass(struct ing_partition *p, const struct kl_bus_record *rec)
{
    p->record_seq = rec->seq;
    p->record_time_ms = rec->time_ms;
    p->applied = rec->seq;
    p->applied_hash = kl_hash64(rec->bytes.at, rec->bytes.size);
    ing_digest_record(p, rec->seq);
}

int64_t ing_log_stale_ms(const struct ing_partition *p)
{
    int64_t stale_ns;

    if (p->i->bus->end != NULL)
        return 0;
    stale_ns = kl_env_mono_ns(p->i->env) - atomic_load(&p->m_fresh_ns);
    return stale_ns < 0 ? 0 : stale_ns / 1000000;
}
