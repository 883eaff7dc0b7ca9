/* `koalemos overrides`: the routes of overrides/http.c, for people and scripts. */
#include "koalemos/overrides.h"

#include "koalemos/tool.h"
#include "libkoal/app/app.h"
#include "libkoal/base/json.h"
#include "libkoal/http/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_MS = 30000, ANSWER_MAX = 64 << 20 };

static const char usage[] =
    "usage: koalemos overrides get [TENANT]\n"
    "       koalemos overrides set TENANT [OPTION=VALUE ...] [--unset OPTION ...] [--file FILE] [--replace]\n"
    "       koalemos overrides history TENANT\n"
    "       koalemos overrides rollback TENANT VERSION\n"
    "       koalemos overrides forget TENANT\n"
    "\n"
    "What is said of a tenant while services run, over what their file says: any option that deploy/CONFIG.md\n"
    "calls one of tenants, as limits.series_max=2000000. It is in force in all services at once.\n"
    "\n"
    "  --file FILE      YAML, as it stands below a tenant's name in the configuration; - is stdin\n"
    "  --replace        instead of what was said; else over it\n"
    "  --expect N       only where version N is in force; 0: where nothing is said\n"
    "  --note TEXT      why, for the history;  --by NAME   who; else $USER\n"
    "  --url URL        a doorman, or serve; else $KOALEMOS_URL, or http://127.0.0.1:4480\n"
    "  --key-file FILE  an API key;  --ca-file FILE   CA of its certificate\n"
    "\n"
    "Prints JSON. Exit status: 0; 1 refused or out of reach; 2 wrong usage.\n";

struct words {
    const char *verb, *tenant, *version, *url, *key_file, *ca_file, *file, *note, *by, *expect;
    bool        replace, sets;
    struct kl_buf yaml, query;
};

static int wrong(const char *what, const char *of)
{
    fprintf(stderr, "koalemos overrides: %s%s\n%s", what, of, usage);
    return 2;
}

static void put_param(struct kl_buf *b, const char *name, const char *value)
{
    if (value == NULL)
        return;
    kl_http_form_add(b, name, kl_span_str(value));
}

/* OPTION=VALUE, as a line of YAML: both as JSON texts. */
static void put_option(struct words *w, const char *arg)
{
    const char *eq = strchr(arg, '=');

    kl_json_str(&w->yaml, kl_span(arg, (size_t)(eq - arg)));
    kl_buf_adds(&w->yaml, ": ");
    kl_json_cstr(&w->yaml, eq + 1);
    kl_buf_adds(&w->yaml, "\n");
    w->sets = true;
}

/* A flag that wants a value; false: it is none of them. */
static bool flag(struct words *w, const char *name, const char *value)
{
    const struct { const char *name, **to; } flags[] = {
        { "--url", &w->url }, { "--key-file", &w->key_file }, { "--ca-file", &w->ca_file },
        { "--file", &w->file }, { "--note", &w->note }, { "--by", &w->by }, { "--expect", &w->expect },
    };

    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (strcmp(name, flags[i].name) == 0) {
            *flags[i].to = value;
            return true;
        }
    if (strcmp(name, "--unset") != 0)
        return false;
    put_param(&w->query, "unset", value);
    w->sets = true;
    return true;
}

static int read_words(struct words *w, int argc, char **argv, int first)
{
    for (int i = first; i < argc; i++) {
        const char *a = argv[i];

        if (strcmp(a, "--replace") == 0)
            w->replace = true;
        else if (strncmp(a, "--", 2) == 0) {
            if (i + 1 == argc || !flag(w, a, argv[i + 1]))
                return wrong("is not understood: ", a);
            i++;
        } else if (w->verb == NULL)
            w->verb = a;
        else if (w->tenant == NULL)
            w->tenant = a;
        else if (strcmp(w->verb, "set") == 0 && strchr(a, '=') != NULL)
            put_option(w, a);
        else if (strcmp(w->verb, "rollback") == 0 && w->version == NULL)
            w->version = a;
        else
            return wrong("is not understood: ", a);
    }
    return w->verb == NULL ? wrong("say what to do", "") : 0;
}

static int read_yaml(struct words *w)
{
    struct kl_err err;
    char         *bytes;
    size_t        size;

    if (kl_app_read_file(strcmp(w->file, "-") == 0 ? "/dev/stdin" : w->file, &bytes, &size, &err) != KL_OK) {
        fprintf(stderr, "koalemos overrides: %s\n", err.text);
        return 1;
    }
    kl_buf_add(&w->yaml, bytes, size);
    free(bytes);
    w->sets = true;
    return 0;
}

static bool keep(void *ctx, struct kl_span bytes)
{
    struct kl_buf *answer = ctx;

    kl_buf_add(answer, bytes.at, bytes.size);
    return kl_buf_ok(answer);
}

static int send_it(const struct words *w, const char *method, const char *below, struct kl_span body)
{
    struct kl_http_client *client = kl_http_client_new(&(struct kl_http_client_options){
        .ca_file = w->ca_file, .token_file = w->key_file });
    struct kl_buf        url = { 0 }, answer;
    struct kl_http_asked a = { .method = method, .body = body, .type = "application/yaml", .timeout_ms = TIMEOUT_MS,
                               .take = keep, .ctx = &answer };
    struct kl_err        err;
    enum kl_code         code;
    bool                 fine;

    kl_buf_init(&answer, ANSWER_MAX);
    kl_buf_addf(&url, "%.*s/api/v1/koalemos/overrides%s%s%.*s", tool_base(w->url), w->url, below,
                w->query.size > 0 ? "?" : "", (int)w->query.size, w->query.size > 0 ? w->query.at : "");
    kl_buf_add8(&url, 0);
    a.url = url.at;
    code = kl_http_client_ask(client, &a, &err);
    fine = code == KL_OK && a.status / 100 == 2;
    if (fine)
        printf("%.*s\n", (int)answer.size, answer.size > 0 ? answer.at : "");
    else
        fprintf(stderr, "koalemos overrides: %s\n", code != KL_OK ? err.text : a.words);
    kl_buf_deinit(&url);
    kl_buf_deinit(&answer);
    kl_http_client_free(client);
    return fine ? 0 : 1;
}

static int act(struct words *w)
{
    const char *user = kl_app_variable("USER");
    int         status;

    put_param(&w->query, "tenant", w->tenant);
    if (strcmp(w->verb, "get") == 0)
        return send_it(w, "GET", "", kl_span("", 0));
    if (w->tenant == NULL)
        return wrong("say which tenant", "");
    if (strcmp(w->verb, "history") == 0)
        return send_it(w, "GET", "/history", kl_span("", 0));
    put_param(&w->query, "by", w->by != NULL ? w->by : user);
    put_param(&w->query, "note", w->note);
    put_param(&w->query, "expect", w->expect);
    if (strcmp(w->verb, "forget") == 0)
        return send_it(w, "DELETE", "", kl_span("", 0));
    if (strcmp(w->verb, "rollback") == 0) {
        if (w->version == NULL)
            return wrong("say which version", "");
        put_param(&w->query, "to", w->version);
        return send_it(w, "POST", "/rollback", kl_span("", 0));
    }
    if (strcmp(w->verb, "set") != 0)
        return wrong("is not understood: ", w->verb);
    if (w->file != NULL && (status = read_yaml(w)) != 0)
        return status;
    if (!w->sets && !w->replace)
        return wrong("say what to set", "");
    if (!w->replace)
        put_param(&w->query, "merge", "true");
    return send_it(w, "POST", "", kl_buf_span(&w->yaml));
}

int koalemos_overrides(int argc, char **argv, int first)
{
    struct words w = { .url = kl_app_variable("KOALEMOS_URL") };
    int          status;

    if (first < argc && (strcmp(argv[first], "--help") == 0 || strcmp(argv[first], "-h") == 0)) {
        fputs(usage, stdout);
        return 0;
    }
    if (w.url == NULL)
        w.url = "http://127.0.0.1:4480";
    status = read_words(&w, argc, argv, first);
    if (status == 0)
        status = act(&w);
    kl_buf_deinit(&w.yaml);
    kl_buf_deinit(&w.query);
    return status;
}
