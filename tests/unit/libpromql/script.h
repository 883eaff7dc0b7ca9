#ifndef TEST_PROMQL_SCRIPT_H
#define TEST_PROMQL_SCRIPT_H
/*
 * Scripts of queries over loaded data, run by script_run.h, in the syntax of Prometheus' test language:
 *
 *   load 5m                                 one sample each 5 minutes from time 0
 *     metric{label="value"} 0+10x10 _ stale {{schema:0 sum:1 count:2 buckets:[1 1]}}x3
 *     metric@st -1m+0sx10                   start times of the line that follows, relative to samples
 *   clear                                   forgets all data
 *   eval instant at 50m <expression>        what follows is expected, until an empty line
 *     expect warn|info|no_warn|no_info|fail|ordered [msg: <text>|regex: <re>]
 *     {label="value"} 100
 *   eval range from 0 to 50m step 5m <expression>
 *
 * An instant query is also run as the middle of a range of three steps, and, where nothing in it
 * depends on the evaluation time, pinned by @ and asked at other times. Work items run backwards and
 * on changing workers: the answer must not care.
 */
#include <ctype.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpromql/hist_priv.h"

enum { SERIES_MAX = 4000, EXPECTED_MAX = 400, LINE_BYTES_MAX = 65536 };

struct point { bool omitted, hint_set; double v; const struct kl_hist *h; int64_t st; };
struct points { size_t count, room; struct point *at; };
struct loaded {
    struct kl_labels labels;
    uint32_t count, room;
    int64_t *t, *st;
    double *v;
    const struct kl_hist **h;
    bool has_hists, has_starts;
};
struct expected { struct kl_labels labels; struct points points; bool seen; };
struct eval {
    char *expr;
    int line;
    bool range, ordered, fails, no_warn, no_info, want_warn, want_info, range_vector, has_string, has_scalar;
    int64_t start, end, step;
    double scalar;
    char *string, *fail_text, *fail_regex;
    size_t warn_count, info_count;
    struct { bool regex; char *text; } warns[32], infos[32];
    size_t count;
    struct expected series[EXPECTED_MAX];
};
struct script {
    struct kl_arena arena;
    struct pql_query *host;                            /* lends its memory to histogram arithmetic */
    struct pql_op op;
    size_t series_count;
    struct loaded series[SERIES_MAX];
    char **lines;
    size_t line_count;
    size_t evals, passed;
    bool verbose, no_variants;
    char why[4096];
};

static void *take(struct script *s, size_t size)
{
    void *p = kl_arena_alloc(&s->arena, size);

    if (p == NULL)
        abort();
    memset(p, 0, size);
    return p;
}
#endif
