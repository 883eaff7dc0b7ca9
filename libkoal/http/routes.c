/* The table of routes, and how often each was answered. */
#include "libkoal/http/http_priv.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void count_answers(struct kl_http_entry *e, struct kl_metrics *m)
{
    for (unsigned i = 1; m != NULL && i < KL_HTTP_CLASSES; i++) {      /* we never send 1xx */
        char labels[300];
        snprintf(labels, sizeof labels, "code=\"%uxx\",method=\"%s\",path=\"%s\"", i + 1,
                 e->method, e->path);
        e->answers[i] = kl_metrics_add(m, KL_COUNTER, "koalemos_http_requests_total", labels,
                                       "Requests answered, by route and class of code.");
    }
}

void kl_http_entry_count(const struct kl_http_entry *e, unsigned status)
{
    unsigned class = status / 100;

    if (class >= 1 && class <= KL_HTTP_CLASSES && e->answers[class - 1] != NULL)
        kl_count(e->answers[class - 1], 1);
}

void kl_http_routes_init(struct kl_http_routes *t, struct kl_metrics *metrics)
{
    *t = (struct kl_http_routes){ .none = { .method = kl_strdup(""), .path = kl_strdup("") } };
    count_answers(&t->none, metrics);
}

void kl_http_routes_deinit(struct kl_http_routes *t)
{
    for (struct kl_http_entry *e = t->first, *next; e != NULL; e = next) {
        next = e->next;
        free(e->method);
        free(e->path);
        free(e);
    }
    free(t->none.method);
    free(t->none.path);
}

void kl_http_routes_add(struct kl_http_routes *t, struct kl_metrics *metrics,
                        const struct kl_http_route *route)
{
    struct kl_http_entry *e = kl_new(sizeof *e), **at = &t->first;

    assert(route->path[0] == '/' && route->handle != NULL);
    e->is = *route;
    e->method = kl_strdup(route->method);
    e->path = kl_strdup(route->path);
    count_answers(e, metrics);
    while (*at != NULL)
        at = &(*at)->next;
    *at = e;
}

const struct kl_http_entry *kl_http_routes_find(const struct kl_http_routes *t,
                                                const struct kl_http_path *path,
                                                const char *method, const char **wild,
                                                char *allow, size_t allow_size)
{
    if (strcmp(method, "HEAD") == 0)
        method = "GET";
    allow[0] = '\0';
    for (const struct kl_http_entry *e = t->first; e != NULL; e = e->next) {
        size_t has = strlen(allow);

        if (!kl_http_path_match(path, e->path, wild))
            continue;
        if (kl_http_list_has(e->method, method))
            return e;
        snprintf(allow + has, allow_size - has, "%s%s", has > 0 ? ", " : "", e->method);
    }
    return NULL;
}
