/* Which keys are ours. */
#include "libkoal/store/store.h"

#include <string.h>

bool kl_store_key_fit(const char *key)
{
    static const char fit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.=-";
    static const char aside[] = ".put-";
    size_t n = strlen(key);

    if (n == 0 || n > KL_STORE_KEY_MAX)
        return false;
    for (const char *part = key; ; part++) {
        size_t size = strspn(part, fit);
        if (size == 0 || size > KL_ENV_DIR_NAME_MAX || (size == 1 && part[0] == '.') ||
            (size == 2 && part[0] == '.' && part[1] == '.') ||
            strncmp(part, aside, sizeof aside - 1) == 0 || (size == 4 && memcmp(part, "LOCK", 4) == 0))
            return false;                              /* the last two are a folder's own */
        part += size;
        if (*part != '/')
            return *part == '\0';
    }
}
