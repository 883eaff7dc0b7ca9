#ifndef KL_TLS_PRIV_H
#define KL_TLS_PRIV_H
/* What libmicrohttpd is told, in its terms: it runs GnuTLS itself. */
#include "libkoal/http/tls.h"

const char *kl_tls_priorities(void);
char       *kl_tls_client_ca(const struct kl_tls *t);  /* PEM; NULL: clients are not asked. The tls keeps it */
/* A gnutls_certificate_retrieve_function2. `find` gives the tls by what the session carries. */
void       *kl_tls_retrieve(void);
struct kl_tls *kl_tls_of_connection(void *connection); /* http_mhd.c: of an MHD_Connection */
bool        kl_tls_certified_raw(struct kl_tls *t, void *gnutls_session);
#endif
