#ifndef TESTS_QUERIER_FETCH_H
#define TESTS_QUERIER_FETCH_H
/* What suites of a fetch begin with: a cluster made up, and what an answer must be. */
#include "tests/suite.h"
#include "tests/unit/querier/cluster.h"

static struct cluster c;
static const char     up[] = "__name__=up,job=a";

static inline void setup(void)    { cluster_init(&c, NULL); }
static inline void teardown(void) { cluster_deinit(&c); }

/* The one partition that holds `metric` of tenant t1. */
static inline uint32_t home(const char *metric)
{
    uint32_t first, count;

    tsp_placement_range(c.placement, kl_span_str("t1"), kl_span_str(metric), &first, &count);
    ck_assert_uint_eq(count, 1);
    return first;
}

static inline void ok(const struct asked *a)
{
    ck_assert_msg(a->n.job.failure.kind == PQL_OK, "%s", a->n.job.failure.text);
}

static inline void complete(const struct asked *a)
{
    ok(a);
    ck_assert_msg(a->n.job.warning_count == 0, "%s", a->n.job.warnings[0]);
}

static inline void warns(const struct asked *a, const char *part)
{
    ok(a);
    for (unsigned i = 0; i < a->n.job.warning_count; i++)
        if (strstr(a->n.job.warnings[i], part) != NULL)
            return;
    ck_abort_msg("no warning with \"%s\" among %u (%s)", part, a->n.job.warning_count,
                 a->n.job.warning_count > 0 ? a->n.job.warnings[0] : "");
}
#endif
