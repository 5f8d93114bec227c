/*
 * faultmodule is a PKCS#11 module that loads a real one and injects faults by rule.
 * It emulates a faulty library of a vendor.
 *
 * Environment:
 *   FAULTMODULE_REAL    the real module; default /usr/lib/softhsm/libsofthsm2.so
 *   FAULTMODULE_RULES   the rule file, read again at every call; absent: no faults
 *   FAULTMODULE_COUNTS  a file for the counters, shared by all processes that
 *                       name it; absent: this process counts for itself
 *   FAULTMODULE_SPENT   a file for the time spent in the real module, shared like the
 *                       counters; absent: it is not measured
 *   FAULTMODULE_KWP     when set, the real module's CKM_AES_KEY_WRAP_PAD (0x210A)
 *                       is shown as CKM_AES_KEY_WRAP_KWP (0x210B)
 *   FAULTMODULE_RESERVED  what C_Initialize passes on as pReserved, such as the
 *                       configdir='sql:DIR' … that NSS softokn wants there
 *   FAULTMODULE_ROOM    when set, C_WrapKey asks for 16 bytes more when only its length is
 *                       asked for. This mends NSS softokn, whose CKM_AES_KEY_WRAP_KWP
 *                       answers with the length of the key instead of the wrapped key's
 *
 * A rule is a line: FUNCTION WHICH WHEN ACTION
 *   FUNCTION  such as C_Decrypt, or * for every one
 *   WHICH     n: the n-th call of that function, from 1; n+: and all later; *: all
 *   WHEN      before or after the real call
 *   ACTION    rv 0xNN     answer with this return value
 *             stick 0xNN  answer with it, and so does every later call of this process
 *             sleep MS    be slow
 *             hang        never return
 *             abort       call abort()
 *             segv        write to address 0
 *             count       nothing but to be counted
 *             unknown 0xNN  (of C_GetAttributeValue, after) the module does not know this
 *                         attribute: no value, and CKR_ATTRIBUTE_TYPE_INVALID
 * Every rule that matches is applied, in the order of the file, until one of them
 * answers. Lines that begin with # are comments; an invalid line aborts the
 * process, so that a typo cannot make a test pass. Replace the file by
 * rename(2): a half-written one would be read too.
 *
 * The counters are two arrays of 64-bit numbers in the machine's byte order, in
 * the order of FUNCTIONS: how often each was called, and how often a rule applied. The
 * times are two more such arrays, in nanoseconds: of the processor, and of the clock.
 *
 * Every function of PKCS#11 v2.40 takes at most 8 arguments, each an integer or a
 * pointer, and returns an unsigned long. By the calling conventions of Linux on
 * x86-64 and aarch64 one trampoline of 8 unsigned longs therefore passes on the
 * arguments of all of them: those that a function does not have are garbage that
 * it does not read. Standard C does not guarantee this.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#if !defined(__linux__) || !(defined(__x86_64__) || defined(__aarch64__))
#error "the trampolines are right for Linux on x86-64 and aarch64 only"
#endif

#ifndef PREFIX
#define PREFIX "FAULTMODULE" /* of the variables; another one lets two of these stand in a row */
#endif

typedef unsigned long word; /* CK_ULONG, CK_RV, and every argument */

enum { CKR_OK = 0x0, CKR_GENERAL_ERROR = 0x5, CKR_ATTRIBUTE_TYPE_INVALID = 0x12, CKR_MECHANISM_INVALID = 0x70 };
enum { CKM_AES_KEY_WRAP_PAD = 0x210A, CKM_AES_KEY_WRAP_KWP = 0x210B };
enum { CKF_OS_LOCKING_OK = 0x2 };
enum { KWP_OVERHEAD = 16 }; /* bytes: its initial value, and padding */

/* The functions of CK_FUNCTION_LIST, in its order (PKCS#11 v2.40 section 3.6). */
#define FUNCTIONS(X) \
	X(Initialize) X(Finalize) X(GetInfo) X(GetFunctionList) X(GetSlotList) \
	X(GetSlotInfo) X(GetTokenInfo) X(GetMechanismList) X(GetMechanismInfo) X(InitToken) \
	X(InitPIN) X(SetPIN) X(OpenSession) X(CloseSession) X(CloseAllSessions) \
	X(GetSessionInfo) X(GetOperationState) X(SetOperationState) X(Login) X(Logout) \
	X(CreateObject) X(CopyObject) X(DestroyObject) X(GetObjectSize) X(GetAttributeValue) \
	X(SetAttributeValue) X(FindObjectsInit) X(FindObjects) X(FindObjectsFinal) X(EncryptInit) \
	X(Encrypt) X(EncryptUpdate) X(EncryptFinal) X(DecryptInit) X(Decrypt) \
	X(DecryptUpdate) X(DecryptFinal) X(DigestInit) X(Digest) X(DigestUpdate) \
	X(DigestKey) X(DigestFinal) X(SignInit) X(Sign) X(SignUpdate) \
	X(SignFinal) X(SignRecoverInit) X(SignRecover) X(VerifyInit) X(Verify) \
	X(VerifyUpdate) X(VerifyFinal) X(VerifyRecoverInit) X(VerifyRecover) X(DigestEncryptUpdate) \
	X(DecryptDigestUpdate) X(SignEncryptUpdate) X(DecryptVerifyUpdate) X(GenerateKey) X(GenerateKeyPair) \
	X(WrapKey) X(UnwrapKey) X(DeriveKey) X(SeedRandom) X(GenerateRandom) \
	X(GetFunctionStatus) X(CancelFunction) X(WaitForSlotEvent)

#define INDEX(name) F_##name,
enum { FUNCTIONS(INDEX) FUNCTION_COUNT };
_Static_assert(FUNCTION_COUNT == 68, "CK_FUNCTION_LIST of v2.40 has 68 functions");

#define NAME(name) "C_" #name,
static const char *const names[FUNCTION_COUNT] = { FUNCTIONS(NAME) };

typedef word (*function)(word, word, word, word, word, word, word, word);

struct function_list { /* CK_FUNCTION_LIST */
	unsigned char version[2];
	function call[FUNCTION_COUNT];
};

struct attribute { /* CK_ATTRIBUTE */
	word type;
	void *value;
	word length;
};

struct counters {
	_Atomic uint64_t called[FUNCTION_COUNT];
	_Atomic uint64_t struck[FUNCTION_COUNT];
};

struct spent {
	_Atomic uint64_t processor[FUNCTION_COUNT];
	_Atomic uint64_t clock[FUNCTION_COUNT];
};

static struct function_list *real;
static struct counters *counters;
static struct spent *spent; /* NULL: not measured */
static _Atomic word stuck; /* what every call answers from now on; 0: nothing */

static void die(const char *what)
{
	fprintf(stderr, "faultmodule: %s\n", what);
	abort();
}

/* One line of the rule file. */
struct rule {
	char function[40], which[24], when[8], action[8], value[24];
};

static int matches(const struct rule *r, int f, uint64_t nth, const char *when)
{
	if (strcmp(r->when, when) != 0 || (strcmp(r->function, "*") != 0 && strcmp(r->function, names[f]) != 0))
		return 0;
	if (strcmp(r->which, "*") == 0)
		return 1;
	char *end;
	uint64_t n = strtoull(r->which, &end, 10);
	return *end == '+' ? nth >= n : nth == n;
}

static int is_number(const char *s, int base)
{
	char *end;
	strtoull(s, &end, base);
	return *s != 0 && *end == 0;
}

static int is_rule(const struct rule *r)
{
	static const char *const plain[] = { "hang", "abort", "segv", "count" };
	int known = strcmp(r->function, "*") == 0, sound = 0;
	for (int f = 0; f < FUNCTION_COUNT; f++)
		known |= strcmp(r->function, names[f]) == 0;
	char *end;
	strtoull(r->which, &end, 10);
	int which = strcmp(r->which, "*") == 0 || (end != r->which && (*end == 0 || strcmp(end, "+") == 0));
	int when = strcmp(r->when, "before") == 0 || strcmp(r->when, "after") == 0;
	for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
		sound |= strcmp(r->action, plain[i]) == 0 && r->value[0] == 0;
	sound |= (strcmp(r->action, "rv") == 0 || strcmp(r->action, "stick") == 0) && is_number(r->value, 16);
	sound |= strcmp(r->action, "sleep") == 0 && is_number(r->value, 10);
	sound |= strcmp(r->action, "unknown") == 0 && is_number(r->value, 16) &&
		 strcmp(r->function, "C_GetAttributeValue") == 0 && strcmp(r->when, "after") == 0;
	return known && which && when && sound;
}

/* Takes the values of one type out of an answer; true when it had one. */
static int forget(word type, struct attribute *list, word n)
{
	int had = 0;
	for (word i = 0; i < n; i++)
		if (list[i].type == type) {
			list[i].length = ~(word)0; /* CK_UNAVAILABLE_INFORMATION */
			had = 1;
		}
	return had;
}

/* Does what the rule says to a call with these arguments; true when *rv is to be the answer. */
static int apply(const struct rule *r, const word *arg, word *rv)
{
	if (strcmp(r->action, "unknown") == 0 && forget(strtoul(r->value, NULL, 16), (struct attribute *)arg[2], arg[3]))
		*rv = CKR_ATTRIBUTE_TYPE_INVALID; /* and more of them may be unknown */
	if (strcmp(r->action, "hang") == 0)
		for (;;)
			pause();
	if (strcmp(r->action, "abort") == 0)
		abort();
	if (strcmp(r->action, "segv") == 0) {
		int *volatile nowhere = NULL;
		*nowhere = 0;
	}
	if (strcmp(r->action, "sleep") == 0) {
		unsigned long ms = strtoul(r->value, NULL, 10);
		struct timespec left = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };
		while (nanosleep(&left, &left) != 0)
			; /* the runtime's signals interrupt it */
	}
	if (strcmp(r->action, "rv") != 0 && strcmp(r->action, "stick") != 0)
		return 0;
	*rv = strtoul(r->value, NULL, 16);
	if (strcmp(r->action, "stick") == 0)
		atomic_store(&stuck, *rv);
	return 1;
}

/* Applies the rules for this call; true when *rv is to be the answer. */
static int strike(int f, uint64_t nth, const char *when, const word *arg, word *rv)
{
	const char *path = getenv(PREFIX "_RULES");
	FILE *file = path ? fopen(path, "re") : NULL;
	if (!file)
		return 0;
	int answered = 0;
	char line[256];
	while (!answered && fgets(line, sizeof line, file)) {
		struct rule r = { .function = "" };
		int n = sscanf(line, "%39s %23s %7s %7s %23s", r.function, r.which, r.when, r.action, r.value);
		if (n <= 0 || r.function[0] == '#')
			continue;
		if (!is_rule(&r))
			die(line);
		if (!matches(&r, f, nth, when))
			continue;
		atomic_fetch_add(&counters->struck[f], 1);
		answered = apply(&r, arg, rv);
	}
	fclose(file);
	return answered;
}

/* FAULTMODULE_KWP: what goes in is translated here; true when refused. */
static int translate_mechanism(int f, word *arg, word copy[3])
{
	word *type = &arg[1]; /* of C_GetMechanismInfo */
	if (!getenv(PREFIX "_KWP") || (f != F_WrapKey && f != F_UnwrapKey && f != F_GetMechanismInfo))
		return 0;
	if (f != F_GetMechanismInfo) { /* a CK_MECHANISM: type, parameter, its length */
		if (!arg[1])
			return 0;
		memcpy(copy, (void *)arg[1], 3 * sizeof(word));
		arg[1] = (word)copy;
		type = &copy[0];
	}
	if (*type == CKM_AES_KEY_WRAP_PAD)
		return 1;
	if (*type == CKM_AES_KEY_WRAP_KWP)
		*type = CKM_AES_KEY_WRAP_PAD;
	return 0;
}

/* FAULTMODULE_RESERVED: the CK_C_INITIALIZE_ARGS (four functions, flags, pReserved, and
 * NULL where softokn has its own pReserved) in place of those of the caller. */
static void translate_arguments(int f, word *arg, word copy[7])
{
	const char *reserved = getenv(PREFIX "_RESERVED");
	if (!reserved || f != F_Initialize)
		return;
	memset(copy, 0, 7 * sizeof(word));
	copy[4] = CKF_OS_LOCKING_OK;
	copy[5] = (word)reserved;
	arg[0] = (word)copy;
}

/* FAULTMODULE_KWP: what C_GetMechanismList(slot, list, count) gave. */
static void translate_list(int f, const word *arg)
{
	if (!getenv(PREFIX "_KWP") || f != F_GetMechanismList || !arg[1] || !arg[2])
		return;
	word *list = (word *)arg[1], n = *(word *)arg[2];
	for (word i = 0; i < n; i++)
		if (list[i] == CKM_AES_KEY_WRAP_PAD)
			list[i] = CKM_AES_KEY_WRAP_KWP;
}

static uint64_t nanoseconds(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static word call_real(int f, const word *arg)
{
	uint64_t processor = spent ? nanoseconds(CLOCK_THREAD_CPUTIME_ID) : 0;
	uint64_t clock = spent ? nanoseconds(CLOCK_MONOTONIC) : 0;
	word rv = real->call[f](arg[0], arg[1], arg[2], arg[3], arg[4], arg[5], arg[6], arg[7]);
	if (spent) {
		atomic_fetch_add(&spent->processor[f], nanoseconds(CLOCK_THREAD_CPUTIME_ID) - processor);
		atomic_fetch_add(&spent->clock[f], nanoseconds(CLOCK_MONOTONIC) - clock);
	}
	return rv;
}

static word call(int f, word *arg)
{
	uint64_t nth = atomic_fetch_add(&counters->called[f], 1) + 1;
	word rv = CKR_OK, mechanism[3], initialise[7];
	if ((rv = atomic_load(&stuck)) != CKR_OK)
		return rv;
	if (strike(f, nth, "before", arg, &rv))
		return rv;
	if (translate_mechanism(f, arg, mechanism))
		return CKR_MECHANISM_INVALID;
	translate_arguments(f, arg, initialise);
	rv = call_real(f, arg);
	if (rv == CKR_OK)
		translate_list(f, arg);
	if (rv == CKR_OK && f == F_WrapKey && !arg[4] && getenv(PREFIX "_ROOM"))
		*(word *)arg[5] += KWP_OVERHEAD;
	strike(f, nth, "after", arg, &rv);
	return rv;
}

#define TRAMPOLINE(name) \
	static word fault_##name(word a, word b, word c, word d, word e, word f, word g, word h) \
	{ \
		word arg[8] = { a, b, c, d, e, f, g, h }; \
		return call(F_##name, arg); \
	}
FUNCTIONS(TRAMPOLINE)

#define ENTRY(name) fault_##name,
static struct function_list ours = { .version = { 2, 40 }, .call = { FUNCTIONS(ENTRY) } };

/* Maps a file that processes share; without a path, memory of this process. */
static void *shared(const char *path, size_t size)
{
	int fd = -1, flags = MAP_SHARED | MAP_ANONYMOUS;
	if (path) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0 || ftruncate(fd, (off_t)size) != 0)
			die("the counters' file cannot be opened");
		flags = MAP_SHARED;
	}
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (at == MAP_FAILED)
		die("the counters cannot be mapped");
	return at;
}

static void open_counters(void)
{
	counters = shared(getenv(PREFIX "_COUNTS"), sizeof *counters);
	if (getenv(PREFIX "_SPENT"))
		spent = shared(getenv(PREFIX "_SPENT"), sizeof *spent);
}

static void load(void)
{
	const char *path = getenv(PREFIX "_REAL");
	void *lib = dlopen(path ? path : "/usr/lib/softhsm/libsofthsm2.so", RTLD_NOW | RTLD_LOCAL);
	if (!lib) {
		fprintf(stderr, "faultmodule: %s\n", dlerror());
		return;
	}
	word (*get)(struct function_list **) = (word (*)(struct function_list **))dlsym(lib, "C_GetFunctionList");
	struct function_list *list;
	if (!get || get(&list) != CKR_OK)
		return;
	open_counters();
	memcpy(ours.version, list->version, sizeof ours.version);
	real = list;
}

__attribute__((visibility("default"))) word C_GetFunctionList(struct function_list **list)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, load);
	if (!real)
		return CKR_GENERAL_ERROR;
	ours.call[F_GetFunctionList] = (function)(void *)C_GetFunctionList;
	*list = &ours;
	return CKR_OK;
}
