/* Fields of the structures that libtirpc and rpcgen's routines read into, by the names that a sample says its values under. */
#include <stddef.h>

enum kind { NUMBER, OPAQUE, STRING, FIXED, BUFFER, AUTHENTICATOR };

struct field {
    const char *type, *name;
    enum kind kind;
    /* Of the member, or of a pointer that leads to where it is at `inner`; -1: there is none. */
    size_t offset;
    long inner;
    size_t size;
    unsigned count;
};

#define SIZE(T, member) sizeof(((T *)0)->member)
#define FIELD(kind, T, member) {#T, #member, kind, offsetof(T, member), -1, SIZE(T, member), 0},
#define BEHIND(kind, T, pointer, node, member) \
    {#T, #pointer "->" #member, kind, offsetof(T, pointer), offsetof(node, member), SIZE(node, member), 0},
#define NUM(T, member) FIELD(NUMBER, T, member)
#define OPQ(T, member) FIELD(OPAQUE, T, member)
#define STR(T, member) FIELD(STRING, T, member)
#define TIME(T, place) NUM(T, place.seconds) NUM(T, place.nseconds)
#define NAME(T, place) OPQ(T, place.dir.data) STR(T, place.name)
#define ATTRIBUTES(T, place) \
    NUM(T, place.type) NUM(T, place.mode) NUM(T, place.nlink) NUM(T, place.uid) NUM(T, place.gid) \
    NUM(T, place.size) NUM(T, place.used) NUM(T, place.rdev.specdata1) NUM(T, place.rdev.specdata2) \
    NUM(T, place.fsid) NUM(T, place.fileid) TIME(T, place.atime) TIME(T, place.mtime) TIME(T, place.ctime)
#define POST(T, place) ATTRIBUTES(T, place.post_op_attr_u.attributes)
#define BEFORE(T, place) NUM(T, place.size) TIME(T, place.mtime) TIME(T, place.ctime)
#define WEAK(T, place) BEFORE(T, place.before.pre_op_attr_u.attributes) POST(T, place.after)
#define SET(T, place) \
    NUM(T, place.mode.set_uint32_u.value) NUM(T, place.uid.set_uint32_u.value) NUM(T, place.gid.set_uint32_u.value) \
    NUM(T, place.size.set_uint64_u.value) TIME(T, place.atime.set_time_u.value) TIME(T, place.mtime.set_time_u.value)
#define LOCK(T) \
    STR(T, alock.caller_name) OPQ(T, alock.fh) OPQ(T, alock.oh) NUM(T, alock.svid) NUM(T, alock.l_offset) \
    NUM(T, alock.l_len)
#define LOCKS(prefix) \
    OPQ(prefix##_testargs, cookie) NUM(prefix##_testargs, exclusive) LOCK(prefix##_testargs) \
    OPQ(prefix##_lockargs, cookie) NUM(prefix##_lockargs, block) NUM(prefix##_lockargs, exclusive) LOCK(prefix##_lockargs) \
    NUM(prefix##_lockargs, reclaim) NUM(prefix##_lockargs, state) \
    OPQ(prefix##_cancargs, cookie) NUM(prefix##_cancargs, block) NUM(prefix##_cancargs, exclusive) LOCK(prefix##_cancargs) \
    OPQ(prefix##_unlockargs, cookie) LOCK(prefix##_unlockargs)
#define HOLDER(T, place) \
    OPQ(T, cookie) NUM(T, place.exclusive) NUM(T, place.svid) OPQ(T, place.oh) NUM(T, place.l_offset) NUM(T, place.l_len)

typedef struct rpc_msg rpc_msg_call;
typedef struct rpc_gss_cred rpc_gss_cred;
typedef struct rpc_gss_init_res rpc_gss_init_res;

static struct field fields[] = {
    OPQ(SETATTR3args, object.data) SET(SETATTR3args, attributes) TIME(SETATTR3args, guard.sattrguard3_u.ctime)
    OPQ(ACCESS3args, object.data) NUM(ACCESS3args, access)
    OPQ(READ3args, file.data) NUM(READ3args, offset) NUM(READ3args, count)
    OPQ(WRITE3args, file.data) NUM(WRITE3args, offset) NUM(WRITE3args, count) NUM(WRITE3args, stable) OPQ(WRITE3args, data)
    NAME(CREATE3args, where) SET(CREATE3args, how.createhow3_u.guarded)
    NAME(MKDIR3args, where) SET(MKDIR3args, attributes)
    NAME(SYMLINK3args, where) SET(SYMLINK3args, attributes) STR(SYMLINK3args, target)
    NAME(RENAME3args, from) NAME(RENAME3args, to)
    OPQ(LINK3args, file.data) NAME(LINK3args, link)
    OPQ(READDIR3args, dir.data) NUM(READDIR3args, cookie) NUM(READDIR3args, verf) NUM(READDIR3args, count)
    OPQ(READDIRPLUS3args, dir.data) NUM(READDIRPLUS3args, cookie) NUM(READDIRPLUS3args, verf) NUM(READDIRPLUS3args, dircount)
    NUM(READDIRPLUS3args, maxcount)
    OPQ(COMMIT3args, file.data) NUM(COMMIT3args, offset) NUM(COMMIT3args, count)

    ATTRIBUTES(GETATTR3res, GETATTR3res_u.attributes)
    WEAK(SETATTR3res, SETATTR3res_u.resok)
    OPQ(LOOKUP3res, LOOKUP3res_u.resok.object.data) POST(LOOKUP3res, LOOKUP3res_u.resok.attributes) POST(LOOKUP3res, LOOKUP3res_u.resok.dir)
    POST(READ3res, READ3res_u.resok.attributes) NUM(READ3res, READ3res_u.resok.count) NUM(READ3res, READ3res_u.resok.eof)
    OPQ(READ3res, READ3res_u.resok.data)
    WEAK(WRITE3res, WRITE3res_u.resok.file) NUM(WRITE3res, WRITE3res_u.resok.count) NUM(WRITE3res, WRITE3res_u.resok.committed)
    NUM(WRITE3res, WRITE3res_u.resok.verf)
    OPQ(CREATE3res, CREATE3res_u.resok.object.post_op_fh3_u.handle.data) POST(CREATE3res, CREATE3res_u.resok.attributes)
    WEAK(CREATE3res, CREATE3res_u.resok.dir)
    WEAK(RENAME3res, RENAME3res_u.resok.fromdir) WEAK(RENAME3res, RENAME3res_u.resok.todir)
    POST(LINK3res, LINK3res_u.resok.file) WEAK(LINK3res, LINK3res_u.resok.linkdir)
    POST(READDIR3res, READDIR3res_u.resok.dir) NUM(READDIR3res, READDIR3res_u.resok.verf) NUM(READDIR3res, READDIR3res_u.resok.reply.eof)
    BEHIND(NUMBER, READDIR3res, READDIR3res_u.resok.reply.entries, entry3, fileid)
    BEHIND(STRING, READDIR3res, READDIR3res_u.resok.reply.entries, entry3, name)
    BEHIND(NUMBER, READDIR3res, READDIR3res_u.resok.reply.entries, entry3, cookie)
    POST(READDIRPLUS3res, READDIRPLUS3res_u.resok.dir) NUM(READDIRPLUS3res, READDIRPLUS3res_u.resok.verf)
    NUM(READDIRPLUS3res, READDIRPLUS3res_u.resok.reply.eof)
    BEHIND(NUMBER, READDIRPLUS3res, READDIRPLUS3res_u.resok.reply.entries, entryplus3, fileid)
    BEHIND(STRING, READDIRPLUS3res, READDIRPLUS3res_u.resok.reply.entries, entryplus3, name)
    BEHIND(NUMBER, READDIRPLUS3res, READDIRPLUS3res_u.resok.reply.entries, entryplus3, cookie)
    BEHIND(OPAQUE, READDIRPLUS3res, READDIRPLUS3res_u.resok.reply.entries, entryplus3, handle.post_op_fh3_u.handle.data)
    POST(FSSTAT3res, FSSTAT3res_u.resok.attributes) NUM(FSSTAT3res, FSSTAT3res_u.resok.tbytes) NUM(FSSTAT3res, FSSTAT3res_u.resok.fbytes)
    NUM(FSSTAT3res, FSSTAT3res_u.resok.abytes) NUM(FSSTAT3res, FSSTAT3res_u.resok.tfiles) NUM(FSSTAT3res, FSSTAT3res_u.resok.ffiles)
    NUM(FSSTAT3res, FSSTAT3res_u.resok.afiles) NUM(FSSTAT3res, FSSTAT3res_u.resok.invarsec)
    POST(FSINFO3res, FSINFO3res_u.resok.attributes) NUM(FSINFO3res, FSINFO3res_u.resok.rtmax) NUM(FSINFO3res, FSINFO3res_u.resok.rtpref)
    NUM(FSINFO3res, FSINFO3res_u.resok.rtmult) NUM(FSINFO3res, FSINFO3res_u.resok.wtmax) NUM(FSINFO3res, FSINFO3res_u.resok.wtpref)
    NUM(FSINFO3res, FSINFO3res_u.resok.wtmult) NUM(FSINFO3res, FSINFO3res_u.resok.dtpref) NUM(FSINFO3res, FSINFO3res_u.resok.maxfilesize)
    TIME(FSINFO3res, FSINFO3res_u.resok.time_delta) NUM(FSINFO3res, FSINFO3res_u.resok.properties)
    POST(PATHCONF3res, PATHCONF3res_u.resok.attributes) NUM(PATHCONF3res, PATHCONF3res_u.resok.linkmax)
    NUM(PATHCONF3res, PATHCONF3res_u.resok.name_max) NUM(PATHCONF3res, PATHCONF3res_u.resok.no_trunc)
    NUM(PATHCONF3res, PATHCONF3res_u.resok.chown_restricted) NUM(PATHCONF3res, PATHCONF3res_u.resok.case_insensitive)
    NUM(PATHCONF3res, PATHCONF3res_u.resok.case_preserving)
    WEAK(COMMIT3res, COMMIT3res_u.resok.file) NUM(COMMIT3res, COMMIT3res_u.resok.verf)

    LOCKS(nlm4) LOCKS(nlm)
    HOLDER(nlm4_testres, test_stat.nlm4_testrply_u.holder) HOLDER(nlm_testres, test_stat.nlm_testrply_u.holder)
    OPQ(nlm4_shareargs, cookie) STR(nlm4_shareargs, share.caller_name) OPQ(nlm4_shareargs, share.fh) OPQ(nlm4_shareargs, share.oh)
    NUM(nlm4_shareargs, share.mode) NUM(nlm4_shareargs, share.access) NUM(nlm4_shareargs, reclaim)
    OPQ(nlm4_shareres, cookie) NUM(nlm4_shareres, stat) NUM(nlm4_shareres, sequence)
    STR(nlm4_notify, name) NUM(nlm4_notify, state)

    STR(my_id, my_name) NUM(my_id, my_prog) NUM(my_id, my_vers) NUM(my_id, my_proc)
    STR(mon_id, mon_name) STR(mon_id, id.my_name) NUM(mon_id, id.my_prog) NUM(mon_id, id.my_vers) NUM(mon_id, id.my_proc)
    STR(sm_status, mon_name) NUM(sm_status, state) FIELD(FIXED, sm_status, priv)
    STR(ext_getquota_args, gqa_pathp) NUM(ext_getquota_args, gqa_type) NUM(ext_getquota_args, gqa_id)
    NUM(getquota_rslt, getquota_rslt_u.gqr_rquota.bsize) NUM(getquota_rslt, getquota_rslt_u.gqr_rquota.active)
    NUM(getquota_rslt, getquota_rslt_u.gqr_rquota.limits.bhardlimit) NUM(getquota_rslt, getquota_rslt_u.gqr_rquota.limits.bsoftlimit)
    NUM(getquota_rslt, getquota_rslt_u.gqr_rquota.limits.curblocks) NUM(getquota_rslt, getquota_rslt_u.gqr_rquota.limits.fhardlimit)
    NUM(getquota_rslt, getquota_rslt_u.gqr_rquota.limits.fsoftlimit) NUM(getquota_rslt, getquota_rslt_u.gqr_rquota.limits.curfiles)
    NUM(getquota_rslt, getquota_rslt_u.gqr_rquota.limits.btimeleft) NUM(getquota_rslt, getquota_rslt_u.gqr_rquota.limits.ftimeleft)

    NUM(rpc_msg_call, rm_xid) NUM(rpc_msg_call, ru.RM_cmb.cb_prog) NUM(rpc_msg_call, ru.RM_cmb.cb_vers) NUM(rpc_msg_call, ru.RM_cmb.cb_proc)
    NUM(rpc_msg_call, ru.RM_cmb.cb_cred.oa_flavor) FIELD(AUTHENTICATOR, rpc_msg_call, ru.RM_cmb.cb_cred.oa_base)
    NUM(rpc_msg_call, ru.RM_cmb.cb_verf.oa_flavor) FIELD(AUTHENTICATOR, rpc_msg_call, ru.RM_cmb.cb_verf.oa_base)
    NUM(rpc_gss_cred, gc_proc) NUM(rpc_gss_cred, gc_seq) NUM(rpc_gss_cred, gc_svc) FIELD(BUFFER, rpc_gss_cred, gc_ctx)
    FIELD(BUFFER, rpc_gss_init_res, gr_ctx) NUM(rpc_gss_init_res, gr_major) NUM(rpc_gss_init_res, gr_minor)
    NUM(rpc_gss_init_res, gr_win) FIELD(BUFFER, rpc_gss_init_res, gr_token)
};
enum { FIELDS = sizeof fields / sizeof *fields };
