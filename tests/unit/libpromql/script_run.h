#ifndef TEST_PROMQL_SCRIPT_RUN_H
#define TEST_PROMQL_SCRIPT_RUN_H
/* Of a script: `eval` with what is expected of it, and all of it from its first line to its last. */
#include "tests/unit/libpromql/script_judge.h"

static char *word_after(char **at)
{
    char *w;

    *at += strspn(*at, " \t");
    w = *at;
    *at += strcspn(*at, " \t");
    if (**at != '\0')
        *(*at)++ = '\0';
    return w;
}

static int64_t time_of(const char *w)
{
    int64_t ms = 0;

    read_duration(&w, &ms);
    return ms;
}

static void read_expect(struct eval *e, char *line)
{
    char *at = line, *what, *text;

    word_after(&at);
    what = word_after(&at);
    text = strchr(at, ':');
    if (text != NULL)
        text += 1 + strspn(text + 1, " \t");
    at += strspn(at, " \t");
    if (strcmp(what, "ordered") == 0) {
        e->ordered = true;
    } else if (strcmp(what, "no_warn") == 0) {
        e->no_warn = true;
    } else if (strcmp(what, "no_info") == 0) {
        e->no_info = true;
    } else if (strcmp(what, "fail") == 0) {
        e->fails = true;
        if (text != NULL && strncmp(at, "msg", 3) == 0)
            e->fail_text = text;
        else if (text != NULL)
            e->fail_regex = text;
    } else if (strcmp(what, "warn") == 0) {
        e->want_warn = true;
        if (text != NULL && e->warn_count < 32) {
            e->warns[e->warn_count].regex = strncmp(at, "regex", 5) == 0;
            e->warns[e->warn_count++].text = text;
        }
    } else {
        e->want_info = true;
        if (text != NULL && e->info_count < 32) {
            e->infos[e->info_count].regex = strncmp(at, "regex", 5) == 0;
            e->infos[e->info_count++].text = text;
        }
    }
}

static void read_expectation(struct script *s, struct eval *e, char *line)
{
    const char *at = line, *rest;
    char       *cut;
    double      v;

    if (strncmp(line, "expect range vector", 19) == 0) {
        cut = line + 19;
        word_after(&cut);
        e->start = time_of(word_after(&cut));
        word_after(&cut);
        e->end = time_of(word_after(&cut));
        word_after(&cut);
        e->step = time_of(word_after(&cut));
        e->range_vector = true;
    } else if (strncmp(line, "expect string", 13) == 0) {
        struct kl_span text;
        at = line + 13 + strspn(line + 13, " ");
        if (pql_unquote(kl_span_str(at), &s->arena, &text)) {
            e->string = take(s, text.size + 1);
            memcpy(e->string, text.at, text.size);
        }
        e->has_string = true;
    } else if (strncmp(line, "expect", 6) == 0) {
        read_expect(e, line);
    } else if (strncmp(line, "expected_fail_message", 21) == 0) {
        e->fail_text = line + 22;
    } else if (strncmp(line, "expected_fail_regexp", 20) == 0) {
        e->fail_regex = line + 21;
    } else if (read_number(&at, &v) && *at == '\0') {
        e->has_scalar = true;
        e->scalar = v;
    } else if (e->count < EXPECTED_MAX && read_metric(s, line, &e->series[e->count].labels, &rest)) {
        if (!read_values(s, rest, &e->series[e->count].points))
            printf("cannot read %s\n", line);
        e->count++;
    }
}

static size_t evaluate(struct script *s, size_t i)
{
    struct eval *e = take(s, sizeof *e);
    char        *at = s->lines[i], *w = word_after(&at);
    struct pql_failure failure;
    struct pql_query  *q;
    int64_t            asked;
    bool               fine;

    e->line = (int)i + 1;
    e->fails = strcmp(w, "eval_fail") == 0;
    e->want_warn = strcmp(w, "eval_warn") == 0;
    e->want_info = strcmp(w, "eval_info") == 0;
    e->ordered = strcmp(w, "eval_ordered") == 0;
    w = word_after(&at);
    e->range = strcmp(w, "range") == 0;
    word_after(&at);
    e->start = e->end = time_of(word_after(&at));
    if (e->range) {
        word_after(&at);
        e->end = time_of(word_after(&at));
        word_after(&at);
        e->step = time_of(word_after(&at));
    }
    e->expr = at + strspn(at, " \t");
    asked = e->start;
    for (i++; i < s->line_count && s->lines[i][0] != '\0'; i++)
        read_expectation(s, e, s->lines[i]);
    s->evals++;
    s->why[0] = '\0';
    q = run(s, e->expr, !e->range, asked, e->range ? e->end : asked, e->step, &failure);
    fine = judge(s, e, q, &failure);
    pql_free(q);
    if (fine && !e->range && !s->no_variants)
        fine = variants(s, e);
    s->passed += fine;
    if (!fine)
        printf("  line %d: %s\n    %s\n", e->line, e->expr, s->why);
    for (size_t k = 0; k < e->count; k++)
        free(e->series[k].points.at);
    return i;
}

static char *trim(char *line)
{
    size_t n;

    line += strspn(line, " \t\r");
    n = strlen(line);
    while (n > 0 && (line[n - 1] == ' ' || line[n - 1] == '\t' || line[n - 1] == '\r'))
        line[--n] = '\0';
    if (*line == '#')
        *line = '\0';
    return line;
}

static void script_run(struct script *s, char *text)
{
    struct pql_failure failure;
    struct pql_params  p = { .text = kl_span_str("1"), .instant = true };
    size_t             room = 1;

    kl_arena_init(&s->arena, (size_t)8 << 30);
    s->host = pql_new(&p, &failure);
    s->host->memory_max = (size_t)4 << 30;
    s->op = (struct pql_op){ .q = s->host };
    s->op.arenas = kl_new(sizeof *s->op.arenas);
    kl_arena_init(&s->op.arenas[0], (size_t)4 << 30);
    for (char *c = text; *c != '\0'; c++)
        room += *c == '\n';
    s->lines = take(s, (room + 1) * sizeof *s->lines);
    for (char *at = text; at != NULL;) {
        char *end = strchr(at, '\n');
        if (end != NULL)
            *end = '\0';
        s->lines[s->line_count++] = trim(at);
        at = end != NULL ? end + 1 : NULL;
    }
    for (size_t i = 0; i < s->line_count;) {
        if (strncmp(s->lines[i], "clear", 5) == 0)
            s->series_count = 0, i++;
        else if (strncmp(s->lines[i], "load", 4) == 0)
            i = load(s, i);
        else if (strncmp(s->lines[i], "eval", 4) == 0)
            i = evaluate(s, i);
        else
            i++;
    }
    kl_arena_deinit(&s->op.arenas[0]);
    free(s->op.arenas);
    pql_free(s->host);
    kl_arena_deinit(&s->arena);
}
#endif
