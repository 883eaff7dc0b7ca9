/* The page at /: what querier/page/ holds, in the program itself, so that there is nothing to install. */
#include "querier/api_priv.h"

/* A file as bytes, with a NUL behind them. Paths are from the top of the tree, where the compiler runs. */
#define FILE_AS(name, path)                                                                   \
    __asm__(".section .rodata\n.global qr_" #name "\nqr_" #name ":\n.incbin \"" path "\"\n.byte 0\n" \
            ".global qr_" #name "_end\nqr_" #name "_end:\n.previous\n");                       \
    extern const char qr_##name[], qr_##name##_end[]

FILE_AS(page_html, "querier/page/page.html");
FILE_AS(page_js, "querier/page/page.js");
FILE_AS(page_css, "querier/page/page.css");

/* Only its own script, its own style, its own API: what was pushed cannot make it load or run anything. */
static const char policy[] = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; "
                             "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static void send(struct kl_http_request *r, const char *type, const char *at, const char *end)
{
    kl_http_set(r, "Content-Security-Policy", policy);
    kl_http_set(r, "X-Content-Type-Options", "nosniff");
    kl_http_set(r, "Referrer-Policy", "no-referrer");
    kl_http_set(r, "Cache-Control", "no-cache");
    kl_http_answer(r, 200, type, kl_span(at, (size_t)(end - at) - 1));
}

static void html(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    send(r, "text/html; charset=utf-8", qr_page_html, qr_page_html_end);
}

static void js(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    send(r, "text/javascript; charset=utf-8", qr_page_js, qr_page_js_end);
}

static void css(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    send(r, "text/css; charset=utf-8", qr_page_css, qr_page_css_end);
}

void qr_api_page_open(struct qr_http *h)
{
    static const struct kl_http_route routes[] = {
        { .method = "GET", .path = "/", .handle = html }, { .method = "GET", .path = "/page.js", .handle = js },
        { .method = "GET", .path = "/page.css", .handle = css },
    };

    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        kl_http_route_add(h->server, &routes[i]);
}
