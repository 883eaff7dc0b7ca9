/* What a client shows. Hostile until a digest fits. */
#include "libkoal/auth/keys.h"

#include <string.h>
#include <strings.h>

static int digit(char c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26
         : c >= '0' && c <= '9' ? c - '0' + 52 : c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Base64 with its padding, or without; false on anything else. */
static bool unpack(const char *text, size_t size, char *out, size_t *out_size)
{
    uint32_t bits = 0;
    unsigned have = 0;
    size_t   n = 0;

    while (size > 0 && text[size - 1] == '=')
        size--;
    if (size % 4 == 1)
        return false;
    for (size_t i = 0; i < size; i++) {
        int d = digit(text[i]);

        if (d < 0)
            return false;
        bits = bits << 6 | (uint32_t)d;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[n++] = (char)(bits >> have & 0xff);
        }
    }
    *out_size = n;
    return true;
}

bool kl_auth_shown(const char *header, char room[KL_AUTH_HEADER_MAX], struct kl_auth_shown *s)
{
    static const char *const schemes[] = { "Bearer", "Token", "Basic" };
    size_t      scheme = 0, size;
    const char *key, *dot;

    if (header == NULL || strlen(header) >= KL_AUTH_HEADER_MAX)
        return false;
    while (scheme < 3 && strncasecmp(header, schemes[scheme], strlen(schemes[scheme])) != 0)
        scheme++;
    if (scheme == 3)
        return false;
    key = header + strlen(schemes[scheme]);
    if (*key != ' ')
        return false;
    key += strspn(key, " ");
    size = strlen(key);
    while (size > 0 && key[size - 1] == ' ')
        size--;
    if (scheme == 2) {                                 /* user:password */
        const char *colon;

        if (!unpack(key, size, room, &size) || (colon = memchr(room, ':', size)) == NULL)
            return false;
        size -= (size_t)(colon + 1 - room);
        key = colon + 1;
    }
    dot = memchr(key, '.', size);
    if (dot == NULL || dot == key || (size_t)(dot - key) > KL_GUARD_KEY_MAX)
        return false;
    *s = (struct kl_auth_shown){ .id = key, .id_size = (size_t)(dot - key), .secret = dot + 1,
                                 .secret_size = size - (size_t)(dot + 1 - key) };
    return s->secret_size > 0 && s->secret_size <= KL_AUTH_SECRET_MAX && memchr(s->id, '\0', s->id_size) == NULL;
}
