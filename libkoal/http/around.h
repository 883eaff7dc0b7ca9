#ifndef KL_HTTP_AROUND_H
#define KL_HTTP_AROUND_H
/*
 * What a server thread does before and after each call of a handler; `after` is called before the thread
 * looks for the answer, so what it brings about at once needs no other thread. Before start.
 */
struct kl_http_server;

struct kl_http_around {
    void (*before)(void *ctx);                         /* NULL: nothing, and nothing after */
    void (*after)(void *ctx);
    void *ctx;
};
void kl_http_around(struct kl_http_server *s, const struct kl_http_around *around);
#endif
