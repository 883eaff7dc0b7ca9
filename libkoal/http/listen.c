/* Where to listen, and the socket that does. */
#include "libkoal/http/http_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 1024 };

enum kl_code kl_http_listen_parse(const char *text, struct kl_http_listen *l, struct kl_err *err)
{
    const char *colon = strrchr(text, ':'), *host = text;
    size_t      size;
    long        port;
    char       *end;

    if (colon == NULL || colon[1] < '0' || colon[1] > '9')
        goto unfit;
    size = (size_t)(colon - text);
    port = strtol(colon + 1, &end, 10);
    if (*end != '\0' || end - colon > 6 || port > 65535)
        goto unfit;
    if (host[0] == '[' && size >= 2 && host[size - 1] == ']') {
        host++;
        size -= 2;
    } else if (memchr(host, ':', size) != NULL || memchr(host, '[', size) != NULL) {
        goto unfit;                                    /* IPv6 without brackets */
    }
    if (size > KL_HTTP_HOST_MAX)
        goto unfit;
    memcpy(l->host, host, size);
    l->host[size] = '\0';
    strcpy(l->port, colon + 1);
    return KL_OK;

unfit:
    return kl_fail(err, KL_EINVAL,
                   "cannot listen on \"%.100s\": it should read host:port, as 127.0.0.1:4480, "
                   "[::1]:4480 or :4480",
                   text);
}

enum kl_code kl_http_listen_check(const char *listen, struct kl_err *err)
{
    struct kl_http_listen l;

    return kl_http_listen_parse(listen, &l, err);
}

bool kl_http_listens_locally(const char *listen)
{
    struct kl_http_listen l;
    struct kl_err         err;
    struct sockaddr_in    four = { .sin_family = AF_INET };
    struct sockaddr_in6   six = { .sin6_family = AF_INET6 };

    if (kl_http_listen_parse(listen, &l, &err) != KL_OK)
        return true;                                   /* kl_http_listen_check says what it should read */
    return strcmp(l.host, "localhost") == 0 ||
           (inet_pton(AF_INET, l.host, &four.sin_addr) == 1 && kl_http_is_loopback((struct sockaddr *)&four)) ||
           (inet_pton(AF_INET6, l.host, &six.sin6_addr) == 1 && kl_http_is_loopback((struct sockaddr *)&six));
}

/* Our own socket, so that a failure can be told in our words. */
enum kl_code kl_http_listen_open(const char *text, int *fd_out, unsigned *port, struct kl_err *err)
{
    struct kl_http_listen   l;
    struct addrinfo         hints = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                                      .ai_socktype = SOCK_STREAM };
    struct addrinfo        *found;
    struct sockaddr_storage bound;
    socklen_t               bound_size = sizeof bound;
    int                     failed, fd, on = 1;

    if (kl_http_listen_parse(text, &l, err) != KL_OK)
        return err->code;
    failed = getaddrinfo(l.host[0] != '\0' ? l.host : NULL, l.port, &hints, &found);
    if (failed != 0)
        return kl_fail(err, KL_EINVAL, "cannot listen on %s: %s", text,
                       failed == EAI_SYSTEM ? strerror(errno) : gai_strerror(failed));
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) != 0
        || listen(fd, BACKLOG) != 0
        || getsockname(fd, (struct sockaddr *)&bound, &bound_size) != 0) {
        kl_fail(err, KL_EIO, "cannot listen on %s: %s", text, strerror(errno));
        freeaddrinfo(found);
        if (fd >= 0)
            close(fd);
        return err->code;
    }
    freeaddrinfo(found);
    *fd_out = fd;
    *port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                : ((struct sockaddr_in *)&bound)->sin_port);
    return KL_OK;
}
