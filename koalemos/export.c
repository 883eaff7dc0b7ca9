/*
 * `koalemos export`: a server's samples to stdout, however many: asked for metric by metric, and of each
 * metric a piece of time after the other. A piece is kept until it is whole, so one that failed, or was too
 * much for the server or for us, is asked for again, or in halves: nothing comes half, or twice.
 */
#include "koalemos/export.h"

#include "libkoal/app/app.h"
#include "libkoal/http/client.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MATCHES_MAX = 64, PIECE_MAX = 128 << 20, NAMES_MAX = 256 << 20, TRIES = 6, TRIES_REFUSED = 2,
       DAY_MS = 24 * 3600 * 1000 };

static const char usage[] =
    "usage: koalemos export [flags] > FILE\n"
    "\n"
    "  Writes samples of a running server (a querier, or serve) to stdout.\n"
    "  --url URL          the server (http://127.0.0.1:4480)\n"
    "  --match SELECTOR   which series; may be repeated ({__name__!=\"\"})\n"
    "  --start, --end     Unix seconds or RFC 3339 in UTC; without: the 24 h before --end, and now\n"
    "  --format FORMAT    json: lines that /api/v1/import takes, {\"metric\":..,\"values\":..,\"timestamps\":..,\n"
    "                     \"histograms\":..}, of a series one a piece of time; csv; openmetrics: what promtool makes\n"
    "                     blocks of (json)\n"
    "  --columns LIST     of csv: names of labels, __name__, __value__, __timestamp__:unix_s|unix_ms|unix_ns|rfc3339,\n"
    "                     and of native histograms __count__, __sum__, __histogram__ (all of it, as JSON)\n"
    "                     (__name__,job,instance,__timestamp__:unix_ms,__value__)\n"
    "  --header           csv begins with the names of its columns\n"
    "  --slice SECONDS    how much time is asked for at once, at most (86400)\n"
    "  --tenant NAME      --token-file FILE      --ca-file FILE\n"
    "  JSON has all that is stored. OpenMetrics has native histograms of custom bounds as classic ones, and no place\n"
    "  for others, nor has CSV without a column for them: how many were left out is said on stderr.\n"
    "Exit status: 0 all is well; 1 it failed, with words; 2 wrong usage.\n";

struct export {
    const char *url, *start, *end, *format, *columns, *slice, *tenant, *token_file, *ca_file;
    const char *matches[MATCHES_MAX];
    size_t      match_count;
    bool        header, answered;                      /* by whatever it is that listens there */
    int64_t     from_ms, to_ms, slice_ms;
    struct kl_http_client *client;
    struct kl_app_wait    *wait;                       /* told by nobody: to wait a while */
    struct kl_buf piece;
    uint64_t      histograms, metrics, pieces;
};

/* ---- arguments ---- */

static bool read_time(const char *text, int64_t *ms)
{
    int      year, month, day, hour, minute, used = 0;
    double   second;
    char    *end;
    int64_t  days;

    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%lfZ%n", &year, &month, &day, &hour, &minute, &second, &used) == 6 &&
        used > 0 && text[used] == '\0') {
        if (year < 1 || year > 9999 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || hour > 23 || minute < 0 ||
            minute > 59 || !(second >= 0 && second < 61))
            return false;
        /* Days since 1970, by years that begin in March. */
        year -= month <= 2;
        days = (int64_t)year / 400 * 146097;
        days += (year % 400) * 365 + year % 400 / 4 - year % 400 / 100;
        days += (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1 - 719468;
        *ms = ((days * 24 + hour) * 60 + minute) * 60000 + (int64_t)(second * 1000 + 0.5);
        return true;
    }
    second = strtod(text, &end);
    if (end == text || *end != '\0' || !(second > -1e12 && second < 1e12))
        return false;
    *ms = (int64_t)(second * 1000 + (second < 0 ? -0.5 : 0.5));
    return true;
}

static bool take_arg(struct export *x, int argc, char **argv, int *i)
{
    struct { const char *name, **text; } ours[] = {
        { "--url", &x->url }, { "--start", &x->start }, { "--end", &x->end }, { "--format", &x->format },
        { "--columns", &x->columns }, { "--slice", &x->slice }, { "--tenant", &x->tenant },
        { "--token-file", &x->token_file }, { "--ca-file", &x->ca_file }, { "--match", NULL },
    };
    const char *value;

    if (strcmp(argv[*i], "--header") == 0)
        return x->header = true;
    for (size_t k = 0; k < sizeof ours / sizeof ours[0]; k++) {
        size_t size = strlen(ours[k].name);

        if (strncmp(argv[*i], ours[k].name, size) != 0 || (argv[*i][size] != '\0' && argv[*i][size] != '='))
            continue;
        value = argv[*i][size] == '=' ? argv[*i] + size + 1 : *i + 1 < argc ? argv[++*i] : NULL;
        if (value == NULL) {
            fprintf(stderr, "koalemos export: %s wants a value\n", ours[k].name);
            return false;
        }
        if (ours[k].text != NULL) {
            *ours[k].text = value;
            return true;
        }
        if (x->match_count == MATCHES_MAX) {
            fprintf(stderr, "koalemos export: --match may be repeated, at most %d times\n", MATCHES_MAX);
            return false;
        }
        x->matches[x->match_count++] = value;
        return true;
    }
    fprintf(stderr, "koalemos export: \"%.80s\" is not understood\n%s", argv[*i], usage);
    return false;
}

static bool settle_args(struct export *x, int64_t now_ms)
{
    int64_t slice = DAY_MS;

    x->to_ms = now_ms;
    if ((x->end != NULL && !read_time(x->end, &x->to_ms)) ||
        (x->from_ms = x->to_ms - DAY_MS, x->start != NULL && !read_time(x->start, &x->from_ms)) || x->from_ms > x->to_ms) {
        fprintf(stderr, "koalemos export: --start and --end are Unix seconds or as 2026-01-31T12:00:00Z, and in order\n");
        return false;
    }
    if (strcmp(x->format, "json") != 0 && strcmp(x->format, "csv") != 0 && strcmp(x->format, "openmetrics") != 0) {
        fprintf(stderr, "koalemos export: --format is json, csv or openmetrics\n");
        return false;
    }
    if (strcmp(x->format, "csv") != 0 && (x->columns != NULL || x->header)) {
        fprintf(stderr, "koalemos export: --columns and --header are of --format csv\n");
        return false;
    }
    if (x->columns == NULL)
        x->columns = "__name__,job,instance,__timestamp__:unix_ms,__value__";
    if (x->columns[0] == '\0') {
        fprintf(stderr, "koalemos export: --columns names none\n");
        return false;
    }
    if (x->slice != NULL && (!read_time(x->slice, &slice) || slice < 1)) {
        fprintf(stderr, "koalemos export: --slice is a number of seconds\n");
        return false;
    }
    x->slice_ms = slice;
    if (x->match_count == 0)
        x->matches[x->match_count++] = "{__name__!=\"\"}";
    return true;
}

/* ---- asking ---- */

struct taken { struct kl_buf *to; bool full; };

static bool take(void *ctx, struct kl_span bytes)
{
    struct taken *t = ctx;

    kl_buf_add(t->to, bytes.at, bytes.size);
    t->full = !kl_buf_ok(t->to);
    return !t->full;
}

static void add_time(struct kl_buf *form, const char *name, int64_t ms)
{
    char text[40];

    snprintf(text, sizeof text, "%s%" PRId64 ".%03d", ms < 0 ? "-" : "", (ms < 0 ? -ms : ms) / 1000,
             (int)((ms < 0 ? -ms : ms) % 1000));
    kl_http_form_add(form, name, kl_span_str(text));
}

static void add_question(const struct export *x, struct kl_buf *form, int64_t from_ms, int64_t to_ms)
{
    for (size_t i = 0; i < x->match_count; i++)
        kl_http_form_add(form, "match[]", kl_span_str(x->matches[i]));
    add_time(form, "start", from_ms);
    add_time(form, "end", to_ms);
    kl_http_form_add(form, "partial_response", kl_span_str("false"));
}

/* One that was never there is most likely a wrong address: it is not waited for as one that is started anew is. */
static bool is_worth_another_try(const struct export *x, const struct kl_http_asked *a, int tried, struct kl_err *err)
{
    if (a->refused && !x->answered && tried >= TRIES_REFUSED) {
        kl_within(err, "no server is there (--url URL says where one is, `koalemos serve` starts one)");
        return false;
    }
    if (tried == 1)
        fprintf(stderr, "koalemos export: %s; trying again\n", err->text);
    return tried < TRIES;
}

/* Into `to`. KL_ELIMIT: it is too much, for us or for the server. */
static enum kl_code ask(struct export *x, const char *path, bool get, const struct kl_buf *form,
                        struct kl_buf *to, struct kl_err *err)
{
    struct kl_buf        url = { 0 };
    struct taken         t = { .to = to };
    struct kl_http_asked a = { .method = get ? "GET" : "POST", .body = kl_buf_span(form), .take = take, .ctx = &t,
                               .header = "X-Koalemos-Histograms-Left-Out" };
    enum kl_code         code;
    int                  tried = 0;

    kl_buf_adds(&url, x->url);
    while (url.size > 0 && url.at[url.size - 1] == '/')
        url.size--;
    kl_buf_adds(&url, path);
    kl_buf_add8(&url, 0);
    a.url = url.at;
    do {
        if (tried > 0)
            kl_app_wait_for(x->wait, INT64_C(250) << tried);
        kl_buf_reset(to);
        to->over = false;
        code = kl_http_client_ask(x->client, &a, err);
        x->answered |= a.status != 0;
        if (code == KL_ECANCELED)
            code = kl_fail(err, KL_ELIMIT, "the answer has more than %zu MiB", to->cap >> 20);
        else if (code == KL_OK && (a.status == 503 || a.status == 429))
            code = kl_fail(err, KL_EAGAIN, "%s: %u %.300s", a.shown, a.status, a.words);
        else if (code == KL_OK && a.status == 422)
            code = kl_fail(err, KL_ELIMIT, "%s: %.300s", a.shown, a.words);
        else if (code == KL_OK && a.status != 200)
            code = kl_fail(err, KL_EINVAL, "%s: %u %.300s", a.shown, a.status, a.words);
    } while (code == KL_EAGAIN && is_worth_another_try(x, &a, ++tried, err));
    if (code == KL_OK && a.kept[0] != '\0')
        x->histograms += strtoull(a.kept, NULL, 10);
    kl_buf_deinit(&url);
    return code;
}

/* ---- names: {"status":"success","data":["a","b"]} ---- */

static const char *unescape(const char *at, const char *end, struct kl_buf *out)
{
    for (; at < end && *at != '"'; at++) {
        if (*at != '\\') {
            kl_buf_add8(out, (uint8_t)*at);
            continue;
        }
        if (++at == end)
            return NULL;
        if (*at == 'u' && end - at > 4) {
            char     hex[5] = { at[1], at[2], at[3], at[4], 0 };
            unsigned c = (unsigned)strtoul(hex, NULL, 16);

            if (c >= 0x80)                             /* our servers escape nothing else so */
                return NULL;
            kl_buf_add8(out, (uint8_t)c);
            at += 4;
        } else {
            const char *from = "\"\\/bfnrt", *to = "\"\\/\b\f\n\r\t", *which = strchr(from, *at);

            if (which == NULL || *at == '\0')
                return NULL;
            kl_buf_add8(out, (uint8_t)to[which - from]);
        }
    }
    return at < end ? at + 1 : NULL;
}

/* The next name into `name`; *at NULL at the end. */
static enum kl_code next_name(const char **at, const char *end, struct kl_buf *name, struct kl_err *err)
{
    kl_buf_reset(name);
    if (*at < end && **at == ',')
        (*at)++;
    if (*at < end && **at == ']') {
        *at = NULL;
        return KL_OK;
    }
    if (*at == end || **at != '"' || (*at = unescape(*at + 1, end, name)) == NULL)
        return kl_fail(err, KL_ECORRUPT, "the names of metrics came in a form that is not understood");
    return KL_OK;
}

/* ---- one metric ---- */

static enum kl_code put(const void *bytes, size_t size, struct kl_err *err)
{
    if (size > 0 && fwrite(bytes, 1, size, stdout) != size)
        return kl_fail(err, KL_EIO, "cannot write to stdout");
    return KL_OK;
}

static bool plain(struct kl_span s)
{
    const char *at = s.at;

    for (size_t i = 0; i < s.size; i++)
        if (!isalnum((unsigned char)at[i]) && at[i] != '_' && at[i] != ':')
            return false;
    return s.size > 0 && !isdigit((unsigned char)at[0]);
}

/* Does a piece begin with a bucket of the metric? Of a series floats come first. */
static bool is_histogram(struct kl_span metric, const struct kl_buf *piece)
{
    static const char bucket[] = "_bucket";

    return plain(metric) && piece->size > metric.size + sizeof bucket &&
           memcmp(piece->at, metric.at, metric.size) == 0 &&
           memcmp(piece->at + metric.size, bucket, sizeof bucket - 1) == 0 &&
           piece->at[metric.size + sizeof bucket - 1] == '{';
}

static enum kl_code put_type(struct kl_span metric, bool histogram, struct kl_err *err)
{
    struct kl_buf b = { 0 };
    const char   *at = metric.at;
    enum kl_code  code;

    kl_buf_adds(&b, "# TYPE ");
    kl_buf_adds(&b, plain(metric) ? "" : "\"");
    for (size_t i = 0; i < metric.size; i++) {
        if (at[i] == '"' || at[i] == '\\')
            kl_buf_add8(&b, '\\');
        if (at[i] == '\n')
            kl_buf_adds(&b, "\\n");
        else
            kl_buf_add8(&b, (uint8_t)at[i]);
    }
    kl_buf_adds(&b, plain(metric) ? "" : "\"");
    kl_buf_adds(&b, histogram ? " histogram\n" : " unknown\n");
    code = put(b.at, b.size, err);
    kl_buf_deinit(&b);
    return code;
}

static enum kl_code one_piece(struct export *x, struct kl_span metric, int64_t from_ms, int64_t to_ms,
                              struct kl_err *err)
{
    bool          csv = x->format[0] == 'c', json = x->format[0] == 'j';
    struct kl_buf form = { 0 };
    enum kl_code  code;

    add_question(x, &form, from_ms, to_ms);
    kl_http_form_add(&form, "metric", metric);
    kl_http_form_add(&form, json ? "stale" : csv ? "format" : "part", kl_span_str(csv ? x->columns : "1"));
    code = ask(x, json ? "/api/v1/export" : csv ? "/api/v1/export/csv" : "/api/v1/export/openmetrics", false,
               &form, &x->piece, err);
    kl_buf_deinit(&form);
    return code;
}

static enum kl_code one_metric(struct export *x, struct kl_span metric, struct kl_err *err)
{
    bool any = false;

    for (int64_t from = x->from_ms, slice = x->slice_ms; from <= x->to_ms;) {
        int64_t      to = x->to_ms - from < slice ? x->to_ms : from + slice - 1;
        enum kl_code code = one_piece(x, metric, from, to, err);

        if (code == KL_ELIMIT && to > from) {          /* in halves, from now on */
            slice = (to - from + 1) / 2;
            continue;
        }
        if (code == KL_OK && x->piece.size > 0 && !any && x->format[0] == 'o')
            code = put_type(metric, is_histogram(metric, &x->piece), err);
        if (code == KL_OK)
            code = put(x->piece.at, x->piece.size, err);
        if (code != KL_OK)
            return code;
        any |= x->piece.size > 0;
        x->pieces++;
        from = to + 1;
    }
    x->metrics += any;
    return KL_OK;
}

static enum kl_code all(struct export *x, struct kl_err *err)
{
    static const char begins[] = "\"data\":[";
    struct kl_buf     names, form = { 0 }, name = { 0 };
    const char       *at = NULL, *end = NULL;
    enum kl_code      code;

    kl_buf_init(&names, NAMES_MAX);
    kl_buf_init(&x->piece, PIECE_MAX);
    add_question(x, &form, x->from_ms, x->to_ms);
    code = ask(x, "/api/v1/label/__name__/values", true, &form, &names, err);
    if (code == KL_OK) {
        at = memmem(names.at, names.size, begins, sizeof begins - 1);
        end = names.at + names.size;
        if (at == NULL)
            code = kl_fail(err, KL_ECORRUPT, "what --url names is no server that answers queries");
        else
            at += sizeof begins - 1;
    }
    if (code == KL_OK && x->header && x->format[0] == 'c')
        code = printf("%s\n", x->columns) > 0 ? KL_OK : kl_fail(err, KL_EIO, "cannot write to stdout");
    while (code == KL_OK && (code = next_name(&at, end, &name, err)) == KL_OK && at != NULL)
        code = one_metric(x, kl_buf_span(&name), err);
    /* Those without a name, where they can be written. */
    if (code == KL_OK && x->format[0] != 'o')
        code = one_metric(x, kl_span("", 0), err);
    if (code == KL_OK && x->format[0] == 'o')
        code = put("# EOF\n", 6, err);
    if (code == KL_OK && fflush(stdout) != 0)
        code = kl_fail(err, KL_EIO, "cannot write to stdout");
    kl_buf_deinit(&names);
    kl_buf_deinit(&form);
    kl_buf_deinit(&name);
    kl_buf_deinit(&x->piece);
    return code;
}

int koalemos_export(int argc, char **argv, int first)
{
    struct export  x = { .url = "http://127.0.0.1:4480", .format = "json" };
    struct kl_env *env;
    struct kl_err  err;
    bool           good;

    for (int i = first; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            return 0;
        }
        if (!take_arg(&x, argc, argv, &i))
            return 2;
    }
    env = kl_env_real_new(1);
    good = settle_args(&x, kl_env_now_ms(env));
    kl_env_real_free(env);
    if (!good)
        return 2;
    x.client = kl_http_client_new(&(struct kl_http_client_options){ .ca_file = x.ca_file, .tenant = x.tenant,
                                                                    .token_file = x.token_file });
    x.wait = kl_app_wait_new();
    good = all(&x, &err) == KL_OK;
    if (!good)
        fprintf(stderr, "koalemos export: %s\n", err.text);
    fprintf(stderr, "koalemos export: %" PRIu64 " metrics in %" PRIu64 " pieces%s\n", x.metrics, x.pieces,
            good ? "" : ", and then it failed: what was written is not all");
    if (x.histograms > 0)
        fprintf(stderr, "koalemos export: %" PRIu64 " native histograms left out: %s\n", x.histograms,
                x.format[0] == 'c' ? "ask for a column __histogram__, __count__ or __sum__, or for json"
                                   : "OpenMetrics has a place only for those whose bounds are their own; json has one for all");
    kl_app_wait_free(x.wait);
    kl_http_client_free(x.client);
    return good ? 0 : 1;
}
