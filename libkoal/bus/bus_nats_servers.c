#include "libkoal/bus/nats_servers.h"

#include "libkoal/bus/bus_nats_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 64 * 1024, HOST_MAX = 255 };

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool wait_for(int fd, short what, int64_t until_ms)
{
    struct pollfd p = { .fd = fd, .events = what };
    int64_t       left = until_ms - now_ms();

    return left > 0 && poll(&p, 1, left > 60000 ? 60000 : (int)left) == 1;
}

/* Its first line, or what came of it. */
static size_t read_line(int fd, int64_t until_ms, char line[LINE_MAX_BYTES])
{
    size_t  size = 0;
    ssize_t n;

    while (size < LINE_MAX_BYTES && memchr(line, '\n', size) == NULL && wait_for(fd, POLLIN, until_ms)) {
        n = read(fd, line + size, LINE_MAX_BYTES - size);
        if (n <= 0)
            break;
        size += (size_t)n;
    }
    return size;
}

static bool ask(const struct addrinfo *at, int64_t until_ms, char *line, char version[KL_BUS_VERSION_MAX + 1])
{
    int       fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), bad = 0;
    socklen_t size = sizeof bad;
    bool      told = false;

    if (fd < 0)
        return false;
    if (connect(fd, at->ai_addr, at->ai_addrlen) == 0 ||
        (errno == EINPROGRESS && wait_for(fd, POLLOUT, until_ms) &&
         getsockopt(fd, SOL_SOCKET, SO_ERROR, &bad, &size) == 0 && bad == 0))
        told = kl_busn_info_version(line, read_line(fd, until_ms, line), version);
    close(fd);
    return told;
}

/* "scheme://user:secret@host:port/", of which host and port are taken. */
static bool take_apart(const char *url, size_t size, char host[HOST_MAX + 1], char port[8])
{
    const char *at = url, *end = url + size, *colon;

    for (const char *c = at; c + 3 <= end; c++)
        if (memcmp(c, "://", 3) == 0) {
            at = c + 3;
            break;
        }
    for (const char *c = at; c < end; c++)
        if (*c == '@')
            at = c + 1;
    for (const char *c = at; c < end; c++)
        if (*c == '/' || *c == '?' || *c == ' ')
            end = c;
    colon = *at == '[' ? memchr(at, ']', (size_t)(end - at)) : at;
    colon = colon == NULL ? NULL : memchr(colon, ':', (size_t)(end - colon));
    snprintf(port, 8, "%.*s", colon == NULL ? 4 : (int)(end - colon - 1), colon == NULL ? "4222" : colon + 1);
    end = colon == NULL ? end : colon;
    if (at < end && *at == '[' && end[-1] == ']') {
        at++;
        end--;
    }
    if (end <= at || end - at > HOST_MAX)
        return false;
    memcpy(host, at, (size_t)(end - at));
    host[end - at] = '\0';
    return true;
}

static void show(const struct addrinfo *at, char address[80])
{
    char host[60], port[8];

    address[0] = '\0';
    if (getnameinfo(at->ai_addr, at->ai_addrlen, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(address, 80, at->ai_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

unsigned kl_bus_nats_servers(const char *urls, int64_t wait_ms, struct kl_bus_server all[KL_BUS_SERVERS_MAX])
{
    char    *line = kl_new(LINE_MAX_BYTES);
    unsigned count = 0;
    int64_t  until_ms = now_ms() + wait_ms;

    while (*urls != '\0') {
        size_t           size = strcspn(urls, ", ");
        struct addrinfo  want = { .ai_socktype = SOCK_STREAM }, *found = NULL;
        char             host[HOST_MAX + 1], port[8];

        if (take_apart(urls, size, host, port) && getaddrinfo(host, port, &want, &found) != 0)
            found = NULL;
        for (const struct addrinfo *a = found; a != NULL && count < KL_BUS_SERVERS_MAX; a = a->ai_next) {
            bool twice = false;

            show(a, all[count].address);
            for (unsigned i = 0; i < count; i++)
                twice = twice || strcmp(all[i].address, all[count].address) == 0;
            count += !twice && ask(a, until_ms, line, all[count].version);
        }
        if (found != NULL)
            freeaddrinfo(found);
        urls += size + strspn(urls + size, ", ");
    }
    free(line);
    return count;
}

bool kl_bus_version_before(const char *version, unsigned major, unsigned minor)
{
    char         *end;
    unsigned long a = strtoul(version, &end, 10), b;

    if (end == version || *end != '.' || version[0] < '0' || version[0] > '9' || end[1] < '0' || end[1] > '9')
        return false;
    b = strtoul(end + 1, NULL, 10);
    return a < major || (a == major && b < minor);
}
