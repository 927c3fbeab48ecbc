/* An lwIP that the embedder's program already holds, as far as names go. penstock may
 * neither collide with it nor call it. */
#include <stdlib.h>

int tcp_ticks;

void tcp_input(void) { abort(); }
void tcp_output(void) { abort(); }
void tcp_tmr(void) { abort(); }
void* tcp_new(void) { abort(); }
void* pbuf_alloc(void) { abort(); }
void* mem_malloc(void) { abort(); }
void* memp_malloc(void) { abort(); }
void ip4_output_if(void) { abort(); }
void ip6_output_if(void) { abort(); }
