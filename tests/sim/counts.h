#ifndef TESTS_SIM_COUNTS_H
#define TESTS_SIM_COUNTS_H
/*
 * Aggregates asked of a cell that is in trouble, which its ingestors make where they can: how many samples each series of a
 * writer has in the last seconds. Whatever happens, an answer without a warning counts each sample that was
 * acknowledged when it was asked for, and none twice. Included by sim_cluster.c, after its writers.
 */
enum { COUNT_RANGE_MS = 15000 };

struct count {
    struct qr_query x;
    struct writer  *w;
    char     text[80];
    int64_t  to_ms;
    unsigned least;                                    /* acked in its range, when it was asked */
    bool     answered;
};

static unsigned in_range(const struct count *n, unsigned below)
{
    unsigned found = 0;

    for (unsigned i = 0; i < below; i++)
        found += n->w->times[i] > n->to_ms - COUNT_RANGE_MS && n->w->times[i] <= n->to_ms;
    return found;
}

static void count_answer(struct qr_query *x)
{
    struct count            *n = kl_container_of(x, struct count, x);
    struct life             *l = n->w->life;
    const struct pql_result *r = x->result;
    unsigned                 most = in_range(n, n->w->sent);

    n->answered = true;
    if (r == NULL || r->warning_count > 0 || x->job.warning_count > 0)
        return;
    l->counts++;
    l->pushed += x->round != NULL && x->round->fetches[0].pushed;
    must_hold(r->series_count == SERIES || (n->least == 0 && r->series_count < SERIES),
              "seed %" PRIu64 ": at %.3f s: %s: %zu series, of %d, and no warning", l->c.seed, (double)c_now_ns(&l->c) / 1e9, n->text,
              r->series_count, SERIES);
    for (size_t i = 0; i < r->series_count; i++) {
        double v = r->series[i].points[0].value;

        must_hold(v >= n->least && v <= most, "seed %" PRIu64 ": at %.3f s: %s at %" PRId64 ": %g samples, where %u were acked "
                  "and %u sent (%s)", l->c.seed, (double)c_now_ns(&l->c) / 1e9, n->text, n->to_ms, v, n->least, most,
                  x->round->fetches[0].pushed ? "pushed" : x->round->fetches[0].unpushed);
    }
}

static void count_release(struct qr_job *j)
{
    qr_query_deinit(kl_container_of(j, struct qr_query, job));
}

/* One at a time; that of a querier that dies is never answered, and its memory stays. */
static void go_on_counting(struct life *l)
{
    struct c_node *q = &l->c.nodes[C_QUERIER];
    struct kl_err  err;
    struct count  *n;

    if (l->count != NULL && !l->count->answered && q->env != NULL)
        return;
    l->count = NULL;
    if (c_draw(&l->c) % 4 != 0 || q->env == NULL || q->paused || !qr_ready(q->q, &err))
        return;
    n = l->count = kl_new(sizeof *n);
    n->w = &l->writers[c_draw(&l->c) % WRITERS];
    n->to_ms = kl_env_now_ms(l->c.env);
    n->least = in_range(n, n->w->acked);
    snprintf(n->text, sizeof n->text, "sum by (series) (count_over_time(checked_%u[%dms]))", n->w->number, COUNT_RANGE_MS);
    qr_query_init(&n->x);
    n->x.answer = count_answer;
    n->x.job.release = count_release;
    n->x.job.partial = n->x.job.strong = true;
    strcpy(n->x.job.tenant, "anonymous");
    n->x.params = (struct pql_params){ .text = kl_span_str(n->text), .instant = true, .start_ms = n->to_ms,
                                       .end_ms = n->to_ms, .now_ms = n->to_ms };
    qr_submit(q->q, &n->x.job);
}
#endif
