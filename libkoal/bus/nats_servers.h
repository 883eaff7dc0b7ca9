#ifndef KL_BUS_NATS_SERVERS_H
#define KL_BUS_NATS_SERVERS_H
/*
 * Which nats-servers there are, by what each says before anybody has said who he is: its first line,
 *
 *   INFO {"server_id":"N..","version":"2.9.10", ... }
 *
 * The library that speaks with them does not tell their versions. Here one is asked by a connection of its own, that is
 * closed again: for tools, that warn. A server that wants TLS first, or is not there, says nothing, and is left out.
 */
#include <stdbool.h>
#include <stdint.h>

enum { KL_BUS_SERVERS_MAX = 32, KL_BUS_VERSION_MAX = 31 };
struct kl_bus_server { char address[80], version[KL_BUS_VERSION_MAX + 1]; };        /* host:port, in numbers */

/* Those of `urls`, with commas between them, each of the addresses that a name has; returns how many told their version.
 * Waits, for wait_ms at most but for the looking up of names. */
unsigned kl_bus_nats_servers(const char *urls, int64_t wait_ms, struct kl_bus_server all[KL_BUS_SERVERS_MAX]);
/* Is "2.9.10" before 2.10? Of what is no version nothing is said: false. */
bool     kl_bus_version_before(const char *version, unsigned major, unsigned minor);
#endif
