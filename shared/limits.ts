/**
 * Every bound of the product, with its reason. A bound that an operator may move is in the configuration of its tier
 * and takes its default from here.
 */
export const KIB = 1024
export const MIB = 1024 * 1024

/** Limits of one function; the same in development and in production. */
export interface FunctionLimits {
  /** CPU time of one invocation, ms. Exceeding it ends the invocation with ERR_LIMIT_CPU. */
  readonly cpuMs: number
  /** Wall time of one invocation, ms, from its start in a sandbox. ERR_LIMIT_WALL. Lambda's `Timeout`. */
  readonly wallMs: number
  /** Linear memory of the machine, MiB. The guest sees an out-of-memory error; ERR_LIMIT_MEMORY if it does not catch it. */
  readonly memoryMib: number
  /** Bytes of the response body. ERR_LIMIT_RESPONSE. */
  readonly responseMaxBytes: number
  /** Bytes of log lines of one invocation; what is beyond is dropped and the log is marked truncated. */
  readonly logMaxBytes: number
  /** Outbound requests of one invocation; the one beyond rejects with ERR_LIMIT_SUBREQUESTS. */
  readonly subrequestMax: number
}

export const DEFAULT_FUNCTION_LIMITS: FunctionLimits = {
  cpuMs: 50,
  wallMs: 30_000,
  memoryMib: 128,
  responseMaxBytes: 6_291_556,
  logMaxBytes: 256 * KIB,
  subrequestMax: 50,
}

/** How long `waitUntil` work may go on once a request is answered, ms, within its function's wall time. What is left then is stopped, which its log says. */
export const WAIT_UNTIL_MAX_MS = 30_000

/** What a function may ask for at most. */
export const FUNCTION_LIMIT_MAX: FunctionLimits = {
  cpuMs: 300_000,
  wallMs: 900_000,
  memoryMib: 1024,
  responseMaxBytes: 100 * MIB,
  logMaxBytes: 4 * MIB,
  subrequestMax: 10_000,
}

/** Request body of an Invoke or for an event handler, which gets it whole, bytes: Lambda's synchronous limit. Also what may wait of any body where it cannot go on. */
export const REQUEST_BODY_MAX_BYTES = 6 * MIB
/** Bodies that stream through a fetch handler, each way, bytes: little of them is held at any time, so this only ends what would go on for ever. */
export const STREAMED_BODY_MAX_BYTES = 100 * MIB
/** Bytes of a streamed request body that wait for the guest before the sender is asked to pause. It goes on at half of it. */
export const REQUEST_WINDOW_BYTES = 128 * KIB
/** What one streamed request body counts as held at most: its window, and what is kept for a failover. */
export const STREAMED_BODY_HELD_MAX_BYTES = 2 * MIB
/** All request header names and values together, bytes, and their count: what common proxies accept. */
export const REQUEST_HEADERS_MAX_BYTES = 32 * KIB
export const REQUEST_HEADERS_MAX_COUNT = 100
/** Head of a service call or of a fetch as the guest made it: headers, and a URL of up to 16 KiB. */
export const SERVICE_HEAD_MAX_CHARS = REQUEST_HEADERS_MAX_BYTES + 16 * KIB
/** Service calls in a row, the request from outside not counted: ERR_SERVICE_DEPTH. Workers allows 16. */
export const SERVICE_DEPTH_MAX = 16
/** Service calls that one request may cause in all, those of called functions included, as far as they are made on one host: ERR_SERVICE_CALLS. Keeps what doubles at each step from filling an account's slots. */
export const SERVICE_CALLS_PER_REQUEST_MAX = 1_000
/** Calls of one run whose answer was not read to its end. The one beyond rejects. */
export const SERVICE_CALLS_OPEN_MAX = 64
/** Bytes of one answer that may lie unread; a piece more may be on its way. */
export const SERVICE_WINDOW_BYTES = 128 * KIB
/**
 * The same for all calls of a host, request bodies included, shared by accounts (fair-share.ts): one account has half of it at most. Beyond it
 * its calls with bodies are refused, and its answers come piece by piece as they are read.
 */
export const SERVICE_BUFFERED_MAX_BYTES = 64 * MIB
/** Bindings of one function. */
export const SERVICES_PER_FUNCTION_MAX = 64
/** A zip as uploaded, and what its entries may add up to once unpacked. */
export const ZIP_MAX_BYTES = 50 * MIB
export const ZIP_UNPACKED_MAX_BYTES = 250 * MIB
export const ZIP_ENTRIES_MAX = 10_000
/** JavaScript of one function after bundling. */
export const BUNDLE_MAX_BYTES = 10 * MIB
/** Text of one source map, of a bundle or of one of its chunks; a larger one is not used. Two to three times its code is usual. */
export const SOURCE_MAP_MAX_BYTES = 32 * MIB

/** Body of a management call: a zip of ZIP_MAX_BYTES in base64, and 2 MiB for the rest of the JSON. */
export const CONTROL_BODY_MAX_BYTES = Math.ceil(ZIP_MAX_BYTES / 3) * 4 + 2 * MIB
/** Sources esbuild may read for one bundle; what it does not need of them is dropped from the result. */
export const BUNDLE_INPUT_MAX_BYTES = 64 * MIB
/** Time esbuild may take to bundle one zip; real applications need less than one second. */
export const BUNDLE_TIME_MAX_MS = 20_000
/** Library layers below a function's image. With base, prelude and the function a chain has three more images. */
export const LAYERS_MAX = 4
/** Variables of one function, and its secrets: names and values together. Lambda allows 4 KiB, others 5 KiB a value. */
export const FUNCTION_VARS_MAX_BYTES = 16 * KIB
export const FUNCTION_SECRETS_MAX_BYTES = 16 * KIB
/** Per account and per function. They keep every listing and every change notice small. */
export const FUNCTIONS_PER_ACCOUNT_MAX = 10_000
export const VERSIONS_PER_FUNCTION_MAX = 1_000
export const ALIASES_PER_FUNCTION_MAX = 100
export const ROUTES_PER_FUNCTION_MAX = 32
export const TAGS_PER_FUNCTION_MAX = 50
/** Publishes that build at once, and that wait; the one beyond gets ERR_BUILD_QUEUE_FULL. */
export const BUILDS_RUNNING_MAX = 2
export const BUILDS_WAITING_MAX = 16
/** Writes that wait for the store's single writer; each holds at most one image. */
export const STORE_WRITES_WAITING_MAX = 1_000
/** Blocks that one transaction of the store writes, bytes; a larger object takes several. About 20 ms of the one thread that also answers requests. */
export const STORE_WRITE_MAX_BYTES = 4 * MIB
/** What a background scrub of the store reads in a second, and its pause after a pass: about a percent of a core, and ten gigabytes a day or so at least. */
export const SCRUB_BYTES_PER_SECOND = 4 * MIB
export const SCRUB_PAUSE_MS = 60 * 60 * 1000
/** Between two collections of what nobody names any more. Each reads every record and every row of the store once. */
export const GC_PERIOD_MS = 10 * 60 * 1000
/** How long what a collection found to be unnamed is kept: longer than any publish takes from its first block to its commit, and than any read takes. */
export const GC_GRACE_MS = 60 * 60 * 1000
/** Left free on the disk of a store: a deletion needs new pages before it can give any back. */
export const STORE_DISK_RESERVE_BYTES = 16 * MIB
/** Deleted functions that the change feed still remembers; a POP further behind has to compare everything. */
export const CHANGE_TOMBSTONES_MAX = 10_000
/** Derived signing keys kept; each is 32 bytes and made again in microseconds. */
export const SIGNING_KEYS_CACHED_MAX = 1_000
/** How far a signed request's time may be from ours. */
export const SIGNATURE_SKEW_MAX_MS = 15 * 60 * 1000

// The link between a POP and a region.
/** Streams that one link carries at once; an open beyond it fails with ERR_QUEUE_FULL. About two seconds of a saturated POP's forwards at 500 us each. */
export const LINK_STREAMS_MAX = 4096
/** Bytes that one direction of a stream may send before the receiver has taken any: 64 blocks, and 200 Mbit/s at 10 ms. */
export const LINK_CREDIT_BYTES = 256 * KIB
/** The same for an answer that is known to be large, a pull of blocks or of manifests: what 1 Gbit/s brings in 67 ms, so an image comes in one round trip. The receiver keeps up with it by design; the sender reads only what its socket takes. */
export const LINK_BULK_CREDIT_BYTES = 8 * MIB
/** After so long without a word the peer of a link counts as gone, whatever the socket says. */
export const LINK_SILENCE_MAX_MS = 10_000
/** Regions of one POP: each has a link of its own and a number for every function that is known. */
export const REGIONS_MAX = 16
/** What a POP keeps of the body of a forwarded request, to send it to another region if the first one fails before it starts. The front door has counted it (BODIES_BUFFERED_MAX_BYTES). */
export const FAILOVER_BODY_MAX_BYTES = 1 * MIB
/** Payload of one data frame. Larger ones would hold up the small frames of other streams. */
export const LINK_DATA_MAX_BYTES = 64 * KIB
/** Any frame, encoded. An open or head frame holds at most REQUEST_HEADERS_MAX_BYTES of headers, a URL and 64 KiB of body. */
export const LINK_FRAME_MAX_BYTES = 128 * KIB
/** One WebSocket message: the frames that were written in one turn of the event loop. Two of the largest frames. */
export const LINK_MESSAGE_MAX_BYTES = 2 * LINK_FRAME_MAX_BYTES
/** Unsent bytes at the socket above which streams wait; small frames still go. More only adds latency behind it. */
export const LINK_SOCKET_HIGH_WATER_BYTES = 256 * KIB
/** Unsent bytes at the socket at which the peer counts as stuck and the link is closed. */
export const LINK_SOCKET_MAX_BYTES = 32 * MIB
/** Bodies that one end of a link holds for slow readers, all streams together; beyond it the stream at hand fails with ERR_LINK_OVERLOAD. Room for two control bodies of CONTROL_BODY_MAX_BYTES. */
export const LINK_BUFFERED_MAX_BYTES = 160 * MIB
/** Small answers (describe, snapshot, report, manifest) as a whole. A manifest names up to 262,144 pages of about 75 bytes. */
export const LINK_ANSWER_MAX_BYTES = 24 * MIB
/** Log lines that travel with an outcome; the newest are kept. The Lambda API shows 4 KiB of them. */
export const LINK_LOGS_MAX_BYTES = 32 * KIB
/** Text of a thrown exception that travels: message and stack each. */
export const LINK_EXCEPTION_MAX_CHARS = 8 * KIB
/** A stream whose deadline has passed by this much and whose peer is silent is ended here. Covers the trip back. */
export const LINK_DEADLINE_GRACE_MS = 2_000
/** A cancelled run has this long to end before the region ends its stream; the POP waits twice as long. A run stops within milliseconds, a hung thread is replaced within a second. */
export const LINK_CANCEL_GRACE_MS = 5_000
/** Functions that one snapshot request or report names: more than a POP's images fit in memory. */
export const LINK_FUNCTIONS_MAX = 10_000
/** Blocks in one request, by number: five bytes each at most, so 40 KiB of a frame, for 32 MiB of pages. */
export const LINK_BLOCKS_PER_REQUEST_MAX = 8_192
/** Blocks that one question of another region names: 64 hex digits each, so 33 KiB of a frame. */
export const LINK_PEER_BLOCKS_MAX = 512
/** One block as it travels: a group of pages, and what sealing adds. */
export const LINK_BLOCK_MAX_BYTES = 64 * KIB + 256
/** Images from a function's own up to its engine's base: each shared package may be one. A longer chain is a fault of the region. */
export const IMAGE_CHAIN_MAX = 64
/** Ancestors that a POP names as known in one question: 64 hex digits each, so 17 KiB of a frame. */
export const LINK_KNOWN_IMAGES_MAX = 256
/** Builds that one answer about versions names, 250 bytes each: a function more than reaches it still fits, which has VERSIONS_PER_FUNCTION_MAX at most. The rest is asked for again. */
export const LINK_BUILDS_PER_ANSWER = 4_000
/** Estimated bytes of one report; what a POP has to say beyond it goes into the next. */
export const LINK_REPORT_BYTES = 1 * MIB
/** Payload of one question by topic: a session's machine as it moves, or a list of some thousand images. Of a POP: a handful of numbers and names. */
export const LINK_ASK_MAX_BYTES = 16 * MIB
export const LINK_ASK_OF_POP_MAX_BYTES = 64 * KIB
export const LINK_TOPIC_MAX_CHARS = 64
/** What names a session, a reservation and a member on the link. */
export const LINK_SESSION_ID_MAX_CHARS = 256
/** Of an invocation's Selection: what a service binding's `props` may hold. It crosses with the head, whose entry has 64 KiB. */
export const SELECTION_MAX_CHARS = 16_384
/** A session's Set-Cookie: name and id of 128 characters each, and what is said of it. */
export const LINK_COOKIE_MAX_CHARS = 512
export const LINK_RESERVATION_ID_MAX_CHARS = 128
export const LINK_MEMBER_ID_MAX_CHARS = 128
/** Members that one invocation names as predecessors: those of three older rings with four managers a key each, and some. */
export const LINK_PREDECESSORS_MAX = 16
/** Functions for which a host of a site remembers which others lately had a sandbox; the longest unasked is forgotten and begins alike for all. */
export const SITE_FUNCTIONS_WEIGHED_MAX = 1_000
/** Images that one member tells another one of: more than fit in the memory of most. */
export const HOT_LIST_MAX = 10_000
/** Links to other members of a group that one member keeps: each is a socket and a few KiB. Those beyond it are linked up when they are wanted. */
export const PEER_LINKS_MAX = 128
/** Parts of one report: LINK_FUNCTIONS_MAX functions with all the builds that a POP holds of them need some dozens. */
export const LINK_REPORT_PARTS_MAX = 256
/** Functions that one answer to a report recommends: as many as a POP can bring in ten seconds beside what it earns. */
export const ADVICE_MAX = 16
/** Functions of one POP of which a region remembers how often they are asked for; those asked for longest ago are forgotten. About 200 bytes each. */
export const POP_ACTIVITY_FUNCTIONS_MAX = 1_000
/** Links that a region accepts, and those of them that have not yet said who they are. */
export const LINK_CONNECTIONS_MAX = 512
export const LINK_HANDSHAKES_MAX = 64
/** The same for one address, and for handshakes of TLS that are under way as well: beyond it the oldest of that address, else the oldest of all, makes room. A real one takes a few round trips, so under a flood of sockets that only wait it is not the oldest. */
export const LINK_HANDSHAKES_PER_ADDRESS_MAX = 16
/** From the first byte to the end of the TLS handshake and the request to become a WebSocket. */
export const LINK_HANDSHAKE_TIMEOUT_MS = 5_000

// Coordination between processes (shared/coordination).
/** One document; NATS takes 1 MiB with its headers. */
export const COORDINATION_DOCUMENT_MAX_BYTES = 512 * KIB
/** One blob: NATS's payload of 1 MiB less what headers and subject take. */
export const COORDINATION_BLOB_MAX_BYTES = MIB - 4 * KIB
/** What a member says about itself, JSON: each renewal carries it to every other member. */
export const COORDINATION_INFO_MAX_BYTES = 16 * KIB
/** Time until a call to the store that got no answer rejects. Longer than a reconnect to another server of a cluster, shorter than a client's patience. */
export const COORDINATION_TIMEOUT_MS = 5_000
/** Calls to the store under way at once in one process; each holds one value. The one beyond rejects at once. */
export const COORDINATION_CALLS_MAX = 4_096
/** Lease of a member or a leader, and how often it is renewed: two renewals may be lost. A failure is noticed after the first. */
export const LEASE_TTL_MS = 6_000
export const LEASE_RENEW_MS = 2_000
/** How much longer a watcher waits than a holder holds: drift of two clocks within one lease, 17 %. */
export const LEASE_MARGIN_MS = 1_000
/** How long the nodes' common content keeps what nothing names: far longer than a publish takes, also one that waits for NATS. What a publish needs is put again when it is half as old. */
export const SHARED_CONTENT_GRACE_MS = 6 * 60 * 60 * 1000
/** Between two passes over the common content: each lists all of it and reads every live object's manifest. */
export const SHARED_GC_PERIOD_MS = 60 * 60 * 1000
/** Times a commit is made anew because another node has changed the function meanwhile; the one beyond fails with ERR_COORDINATION_CONFLICT. */
export const COMMIT_ATTEMPTS_MAX = 20
/** How long a change made elsewhere waits for its images before it is told without them; they are fetched when they are wanted then. Leaves half of the two seconds that a publish may take to every POP. */
export const MIRROR_OBJECTS_WAIT_MS = 1_000
/** Changes that are put into the mirror in one transaction, and that are prepared ahead of it. */
export const MIRROR_BATCH_MAX = 64

// The ring, and state that moves between its members.
/** Members of one ring: with 128 points each a look-up structure of a few MB, and nine versions fit in a document of 512 KiB. */
export const RING_MEMBERS_MAX = 512
/** A member of this weight serves that many times the keys of one of weight 1. */
export const RING_WEIGHT_MAX = 16
/** Older versions in a document, and those at most that stay in it because state lies by them; a change that needs more waits (ERR_RING_UNSETTLED). */
export const RING_PREVIOUS_MAX = 3
export const RING_PREVIOUS_HELD_MAX = 8
/** Executions that any fleet may hold at once: attributes beyond it are a mistake. */
export const RING_FLEET_MAX = 1_000_000
/** Items of one key that one answer moves; the rest follows on the next question. */
export const HAND_OFF_ITEMS_MAX = 1_000
/** Requests that wait for one key's state, and for any at one member; one beyond fails with ERR_QUEUE_FULL. */
export const HAND_OFF_WAITING_PER_KEY_MAX = 64
export const HAND_OFF_WAITING_MAX = 10_000
/** Keys that one member offers to others at a time when the ring has changed: each may bring a state of some MB on the way. */
export const HAND_OFF_OFFERS_MAX = 32
/** Reservations of sandboxes that a manager holds or remembers; beyond it a question is answered with "none". 100 bytes each. */
export const RESERVATIONS_MAX = 10_000

// Registered POPs.
/** Names that a region registers; those whose key was revoked count. Twenty times the links that one region accepts. */
export const POPS_MAX = 10_000
/** Grants of one POP, 90 bytes each: more than a hundred functions are usually granted as a whole account. */
export const POP_GRANTS_MAX = 2_000
/** Keys of one name that are remembered as revoked; one that is forgotten is a stranger's, and is refused all the same. */
export const REVOKED_KEYS_MAX = 64

// Running invocations of accounts.
/** Running invocations of an account that nothing else is said of: Lambda's. */
export const ACCOUNT_CONCURRENCY_DEFAULT = 1_000
/** The most that an account may be given: what a dozen POPs run at once, and 782 shares. */
export const ACCOUNT_CONCURRENCY_MAX = 100_000
/** Slots of one share, which one manager counts; the same everywhere, since who counts with another size may count double. An account of the default has eight shares. */
export const SHARE_SLOTS = 128
/** Lessees of one share: one link each, and the nodes. Another one gets nothing there. */
export const LESSEES_PER_SHARE_MAX = 1_024
/** How much later a manager ends a lease than its lessee does: clocks that drift by 100 ppm over the longest lease, a timer that is late, and the time in which a cancelled run ends. */
export const LEASE_GRACE_MS = 10_000
/** A first lease, which is not confirmed yet, counts this long: several renewals, and not a whole lease for an answer that was lost. */
export const NEW_LEASE_MS = 10_000
/** How long idle slots are called back after somebody got fewer than needed. */
export const RECALL_MS = 2_000
/** Idle slots that are held ahead of demand, at most. */
export const LEASE_SPARE_MAX = 64
/** The longest lease that anybody is given: a POP's `staleMax` may be as long. */
export const LEASE_MAX_MS = 604_800_000
/** Functions of one account with reserved concurrency; they are listed in one document. */
export const RESERVATIONS_PER_ACCOUNT_MAX = 1_000
/** Left to functions without a reservation, at least: Lambda's 100, and for small accounts a tenth. */
export const UNRESERVED_CONCURRENCY_MIN = 100
/** Questions that wait for one share to be read or written; beyond it they are not answered and asked again. */
export const LIMIT_QUESTIONS_WAITING_MAX = 10_000
/** Pools of accounts that one frontend keeps in mind: 200 bytes each. The one used longest ago is forgotten. */
export const LIMIT_SETS_MAX = 20_000
/** Pools of which one process counts slots, 500 bytes each; idle ones are forgotten to make room. */
export const SLOT_POOLS_MAX = 20_000
/** Invocations that wait for a slot in one process; the one beyond is refused as if its wait were over. A few KiB each, their bodies are counted elsewhere. */
export const ADMISSION_WAITING_MAX = 4_096
/** How long an invocation waits for a slot that is called back from elsewhere: a POP's renewal period, and the trip there and back. */
export const ADMISSION_WAIT_MS = 2_000

// Sessions.
/** An id that a client chose. Shorter than what the link carries. */
export const SESSION_ID_MAX_CHARS = 128
/** Of one session at rest: beyond it the session ends. A counter takes 4 KiB, a Hono app 50. */
export const SESSION_STATE_MAX_BYTES = 4 * MIB
/** Machines at rest that a process keeps in memory, of all accounts; beyond it the least recently used goes to disk, or ends. */
export const SESSIONS_MEMORY_MAX_BYTES = 64 * MIB
/** What a session takes besides its state: names, cookie, queue. */
export const SESSION_OVERHEAD_BYTES = 1 * KIB
/** Sessions of one account that a process keeps in memory; beyond it that account's least recently used one goes. */
export const SESSIONS_PER_ACCOUNT_MAX = 10_000
/** Requests of one session that wait for their turn; one more gets ERR_SESSION_BUSY. A browser opens six connections to a host. */
export const SESSION_WAITING_MAX = 64
/** Sessions at rest on disk; beyond it the oldest go. */
export const SESSIONS_DISK_MAX_BYTES = 1024 * MIB
/** Sessions that ended, of which it is remembered why; the oldest are forgotten first. 200 bytes each. */
export const SESSIONS_ENDED_REMEMBERED_MAX = 10_000
/** What a function may ask for. Lambda has no sessions; load balancers keep them for a day or a week. */
export const SESSION_MAX_AGE_MAX_MS = 86_400_000
export const SESSION_IDLE_DEFAULT_MS = 60_000
export const SESSION_MAX_AGE_DEFAULT_MS = 900_000

// Front doors.
/**
 * Request bodies that one front door holds, all together, shared by clients (fair-share.ts): one client, an IPv4 address or the /64 of an IPv6 one, has half
 * of it at most. Beyond it ERR_QUEUE_FULL. Room for two uploads of the largest zip.
 */
export const BODIES_BUFFERED_MAX_BYTES = 256 * MIB
/** Requests in flight at one front door: about 2 KiB each without their bodies, and twice what a POP dispatches, for those that still arrive. */
export const EXCHANGES_MAX = 20_000
/** Time until a front door's caller gives up on an answer, ms: the longest wall time a function can have, and a minute to get there and back. */
export const REQUEST_DEADLINE_MS = FUNCTION_LIMIT_MAX.wallMs + 60_000

// Compression streams of functions (shared/egress/zip-stream.ts): each holds up to 300 KiB outside the guest's memory, and one piece.
export const ZIPS_PER_RUN_MAX = 64
/** Open at once in a process, shared by accounts (fair-share.ts): one account has half of them at most. One more is ERR_LIMIT_OPERATIONS. */
export const ZIPS_MAX = 1_024

// crypto.subtle of functions (shared/web-crypto).
/** Under way at once: each takes a thread of libuv's four, which DNS look-ups need too. One is left for others than an account that makes keys. */
export const CRYPTO_AT_ONCE_MAX = 3
export const CRYPTO_AT_ONCE_PER_ACCOUNT_MAX = 2
/** Operations of one account that are not over; one more fails with OperationError and ERR_LIMIT_OPERATIONS. */
export const CRYPTO_WAITING_PER_ACCOUNT_MAX = 1_000
/** What one operation works on, and all that one run has started and not seen the end of: copying it takes the thread of all outbound requests some 30 ms. More is ERR_LIMIT_OPERATIONS, as are the next ones. */
export const CRYPTO_DATA_MAX_BYTES = 32 * MIB
/** What an operation says besides: a key of CRYPTO_KEY_MAX_BYTES in base64, and as much again. Reading it takes well below a millisecond of that thread. */
export const CRYPTO_REQUEST_MAX_BYTES = 176 * KIB
/** A secret key, or a password: an RSA key has 2.4 KB. More is NotSupportedError. */
export const CRYPTO_KEY_MAX_BYTES = 64 * KIB
/** Of one digest, which is made on the thread that runs guests: 30 to 150 ms, of which the guest cannot be stopped. */
export const DIGEST_MAX_BYTES = 64 * MIB
/** PBKDF2: about half a second of one thread with SHA-512. OWASP asks for 600,000 with SHA-256. More is NotSupportedError. */
export const CRYPTO_ITERATIONS_MAX = 1_000_000
/** What such operations hold until they are over, shared by accounts (fair-share.ts): one account has half of it at most. */
export const CRYPTO_WAITING_MAX_BYTES = 128 * MIB
/** PBKDF2 does its iterations for each 20 to 64 bytes of output: iterations times 160 bits of output, at most. */
export const CRYPTO_ROUNDS_MAX = 8 * CRYPTO_ITERATIONS_MAX
/** Larger keys take minutes to make, and those that a guest made up itself take minutes to use. */
export const CRYPTO_RSA_MAX_BITS = 4_096
/** PKCS #8 of an RSA key of that size takes 2.4 KB; numbers that are larger than they may be take as long to use as larger keys. */
export const CRYPTO_RSA_KEY_MAX_BYTES = 2_560
/** Of one scrypt: 128 * N * r, Node's own default; two may run at once. */
export const CRYPTO_SCRYPT_MEMORY_MAX_BYTES = 32 * MIB
/** N * r * p: half a second of a core. */
export const CRYPTO_SCRYPT_WORK_MAX = 2 ** 20
export const CRYPTO_DERIVED_MAX_BITS = 8 * MIB

// Intl of functions (shared/intl), on the threads that run them. What a call takes is charged to the guest (host-calls.ts).
/** Locales and options of one Intl object; longer is a RangeError. */
export const INTL_KEY_MAX_CHARS = 16 * KIB
export const INTL_LOCALES_MAX = 1_024
/** One text or list for Intl, 2 ms at most: longer is a RangeError. Comparisons, segments and case take longer ones in parts. */
export const INTL_TEXT_MAX_CHARS = 128 * KIB
/** Of two texts, from their first difference on: 15 us. Texts that are equal so far are equal. */
export const INTL_COMPARED_MAX_CHARS = 16 * KIB
/** The same if they hold runs of four marks and more, whose comparison takes a hundred times as long. */
export const INTL_COMPARED_MARKED_MAX_CHARS = 512
/** A code that DisplayNames is asked for: ICU's time grows with the square of its parts, 128 KiB take 0.2 s. A longer one is a RangeError. */
export const INTL_CODE_MAX_CHARS = KIB
/** Of one list, 2 ms: a longer one is a RangeError. */
export const INTL_LIST_MAX_ITEMS = 4_096
/** Text in which one call looks for segments, 0.5 ms; a window that holds no whole segment is doubled, up to the largest, where the segment is cut. */
export const INTL_SEGMENT_WINDOW_CHARS = 2 * KIB
export const INTL_SEGMENT_WINDOW_MAX_CHARS = 64 * KIB
/** What follows a segment may move its end; this much of it is looked at. */
export const INTL_SEGMENT_WINDOW_MARGIN_CHARS = 256
/** Formatters that a worker's thread keeps, all and those of one account: 48 DateTimeFormats, or 512 others. Outside of `--memory`. */
export const INTL_CACHE_MAX_BYTES = 16 * MIB
export const INTL_CACHE_ACCOUNT_MAX_BYTES = 4 * MIB
/** Formatters that were made and not kept, until they are collected: 780 DateTimeFormats. Collecting takes 5 to 20 ms, which whoever made the last of them pays. */
export const INTL_GARBAGE_MAX_BYTES = 64 * MIB
/** Longer keys are made anew at each call. */
export const INTL_CACHED_KEY_MAX_CHARS = 2 * KIB

// Outbound requests of functions.
/** Redirects followed by one fetch, as browsers do. */
export const EGRESS_REDIRECTS_MAX = 20
/** Connections of one account to one origin; requests beyond it wait for one. A slow upstream may hold thousands. */
export const EGRESS_CONNECTIONS_PER_ORIGIN_MAX = 4096
/** Requests under way in one process, shared by accounts (fair-share.ts): one account has half of them at most; one beyond it fails with ERR_QUEUE_FULL. Each may hold a socket. */
export const EGRESS_REQUESTS_MAX = 16_384
/** Bodies of these requests, each held until its answer is over, shared likewise: one account has half of it at most. Beyond it a fetch fails with ERR_LIMIT_OPERATIONS. */
export const EGRESS_BODIES_MAX_BYTES = 256 * MIB
/** Accounts whose connections are kept open between requests; the least recently used one's are closed. */
export const EGRESS_ACCOUNTS_MAX = 256
/** All header bytes of one response. Node allows 16 KiB, common proxies 32 to 128. */
export const EGRESS_RESPONSE_HEADERS_MAX_BYTES = 64 * KIB
/** What a compressed body may unpack to, at each stage: the largest response that a function may give itself. */
export const EGRESS_DECOMPRESSED_MAX_BYTES = FUNCTION_LIMIT_MAX.responseMaxBytes
/**
 * Brotli bodies that are being unpacked at once, in a process and for one account. Each may take 17 MB from 50 bytes on
 * the wire, which is why requests do not offer it; a server that sends it all the same is understood within these.
 */
export const EGRESS_BROTLI_MAX = 32
export const EGRESS_BROTLI_PER_ACCOUNT_MAX = 8
/** One URL. Servers commonly take 8 KiB. */
export const EGRESS_URL_MAX_CHARS = 16 * KIB
