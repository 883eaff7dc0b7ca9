/*
 * Whom a partition is asked of: the members that the table names, its owner first; at last, or where it names none, the
 * owner, whoever that is. Not first, for once another has taken over from one that hangs, both are asked as the owner,
 * by chance, until the bus knows that one of them is gone. Who said nothing for as long as a question may take is asked
 * last for a while: it may hang still, and each question would wait for it first. Whoever answers, the answer is
 * the same: each refuses what it is not up to date for.
 */
#include <stdio.h>

#include "querier/qr_priv.h"

enum { SILENT_MS = 15 * 1000 };                        /* a table without it comes sooner, if it stays so */
struct whom { unsigned count; char subjects[TSP_REPLICAS_MAX + 1][KL_BUS_SUBJECT_MAX + 1]; };

static unsigned members_of(const struct qr_part *p, const char *names[TSP_REPLICAS_MAX])
{
    const struct tsp_placement *t = p->f->table->placement;

    return p->partition < tsp_placement_partitions(t)
         ? tsp_placement_members(t, p->partition, names, TSP_REPLICAS_MAX) : 0;
}

static uint64_t key_of(const char *subject) { return kl_hash64(subject, strlen(subject)); }

static bool silent(const struct qr_part *p, const char *subject)
{
    const struct qr_shard *s = p->f->job->shard;

    return qr_noted(s, s->silent, QR_SILENT_MAX, key_of(subject));
}

static void everyone(const struct qr_part *p, struct whom *w)
{
    const char *names[TSP_REPLICAS_MAX];
    unsigned    count = members_of(p, names);

    for (unsigned i = 0; i < count; i++)
        tsp_select_member(w->subjects[i], sizeof w->subjects[i], p->partition, names[i]);
    tsp_select_subject(w->subjects[count], sizeof w->subjects[count], p->partition);
    w->count = count + 1;
}

/* Those that were silent come last, but before the owner whoever it is, who is one of them. */
static void order(const struct qr_part *p, struct whom *w)
{
    struct whom all;

    everyone(p, &all);
    w->count = 0;
    for (int later = 0; later <= 1; later++)
        for (unsigned i = 0; i + 1 < all.count; i++)
            if (silent(p, all.subjects[i]) == later)
                memcpy(w->subjects[w->count++], all.subjects[i], sizeof all.subjects[i]);
    memcpy(w->subjects[w->count], all.subjects[w->count], sizeof all.subjects[0]);
    w->count++;
}

uint64_t qr_members_subject(const struct qr_part *p, uint64_t but, char *out, size_t size)
{
    struct whom w;
    unsigned    turn;

    order(p, &w);                                      /* which may be another than when `but` was asked */
    turn = p->tries % w.count;
    if (key_of(w.subjects[turn]) == but)
        turn = (turn + 1) % w.count;
    snprintf(out, size, "%s", w.subjects[turn]);
    return key_of(out);
}

bool qr_members_another(const struct qr_part *p)
{
    const char *names[TSP_REPLICAS_MAX];

    return p->tries + 1 < QR_ASK_TRIES && members_of(p, names) > 1;
}

void qr_members_silent(struct qr_shard *s, uint64_t whom)
{
    qr_note(s, s->silent, QR_SILENT_MAX, whom, SILENT_MS);
}

bool qr_members_all_silent(const struct qr_part *p)
{
    struct whom all;

    everyone(p, &all);
    for (unsigned i = 0; i + 1 < all.count; i++)
        if (!silent(p, all.subjects[i]))
            return false;
    return true;
}
