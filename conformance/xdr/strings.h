/* In front of each file that rpcgen makes: its strings go through a check of ours. */
#include <rpc/rpc.h>
bool_t checked_string(XDR *x, char **text, u_int max);
#define xdr_string checked_string
