;; The page operations of a slot: copying an image's pages into a guest's memory and comparing the two.
;; Three memories: the arena that holds every image of the process, the guest's memory, and the flags that the
;; rewritten stores set, one byte (0 or 1) for each granule of 512 bytes, so that the flags of a 4 KiB page are one
;; 64-bit word. page-ops.ts holds this file's binary; a test keeps them equal.
;;
;; A page table is an array of i32 in the arena, one for each page of an image: the arena offset of the page's
;; content, 0 for a page of zeros. Pages past the table's end are zeros too.
(module
  (import "outpost" "arena" (memory $arena 1 65536 shared))
  (import "outpost" "memory" (memory $guest 1 65536))
  (import "outpost" "flags" (memory $flags 129 129))

  ;; Where page $page of the image lies in the arena, 0 for zeros.
  (func $source (param $table i32) (param $count i32) (param $page i32) (result i32)
    (if (result i32) (i32.lt_u (local.get $page) (local.get $count))
      (then (i32.load $arena (i32.add (local.get $table) (i32.shl (local.get $page) (i32.const 2)))))
      (else (i32.const 0))))

  ;; Restores the first 16 bytes of a page.
  (func $restoreStart (param $table i32) (param $count i32) (param $page i32)
    (local $from i32)
    (local.set $from (call $source (local.get $table) (local.get $count) (local.get $page)))
    (local.set $page (i32.shl (local.get $page) (i32.const 12)))
    (if (local.get $from)
      (then
        (i64.store $guest (local.get $page) (i64.load $arena (local.get $from)))
        (i64.store $guest offset=8 (local.get $page) (i64.load $arena offset=8 (local.get $from))))
      (else
        (i64.store $guest (local.get $page) (i64.const 0))
        (i64.store $guest offset=8 (local.get $page) (i64.const 0)))))

  ;; Restores the granules of a page whose flags are set in $word, each run of them in one copy. A store that straddles
  ;; the end of a granule marked only that one: 16 bytes past each run are restored too.
  (func $restorePage (param $table i32) (param $count i32) (param $page i32) (param $pages i32) (param $word i64)
    (local $from i32) (local $to i32) (local $start i32) (local $end i32) (local $length i32)
    (local.set $from (call $source (local.get $table) (local.get $count) (local.get $page)))
    (local.set $to (i32.shl (local.get $page) (i32.const 12)))
    (loop $runs
      ;; A flag is bit 0 of its byte, so eight bits are one granule: bit n stands for byte n * 64 of the page.
      (local.set $start (i32.wrap_i64 (i64.ctz (local.get $word))))
      (local.set $end (i32.add (local.get $start) (i32.wrap_i64 (i64.ctz
        (i64.xor (i64.shr_u (local.get $word) (i64.extend_i32_u (local.get $start))) (i64.const 0x0101010101010101))))))
      (local.set $word (select
        (i64.const 0)
        (i64.and (local.get $word) (i64.shl (i64.const -1) (i64.extend_i32_u (local.get $end))))
        (i32.ge_u (local.get $end) (i32.const 64))))
      (local.set $length (i32.shl (i32.sub (local.get $end) (local.get $start)) (i32.const 6)))
      (if (i32.lt_u (local.get $end) (i32.const 64)) (then (local.set $length (i32.add (local.get $length) (i32.const 16)))))
      (local.set $start (i32.shl (local.get $start) (i32.const 6)))
      (if (local.get $from)
        (then (memory.copy $guest $arena (i32.add (local.get $to) (local.get $start)) (i32.add (local.get $from) (local.get $start)) (local.get $length)))
        (else (memory.fill $guest (i32.add (local.get $to) (local.get $start)) (i32.const 0) (local.get $length))))
      (br_if $runs (i64.ne (local.get $word) (i64.const 0))))
    (if (i32.ge_u (local.get $end) (i32.const 64))
      (then
        (local.set $page (i32.add (local.get $page) (i32.const 1)))
        (if (i32.lt_u (local.get $page) (local.get $pages))
          (then (call $restoreStart (local.get $table) (local.get $count) (local.get $page)))))))

  ;; Restores every flagged granule from the image and clears the flags. $pages: physical size of the guest's memory in
  ;; 4 KiB pages, a multiple of 16. Returns in how many pages something was restored.
  (func (export "reset") (param $table i32) (param $count i32) (param $pages i32) (result i32)
    (local $page i32) (local $end i32) (local $at i32) (local $restored i32) (local $word i64)
    (loop $each
      ;; Most pages are clean: four at a time.
      (if (i64.eqz (i64.or
            (i64.or (i64.load $flags (local.tee $at (i32.shl (local.get $page) (i32.const 3)))) (i64.load $flags offset=8 (local.get $at)))
            (i64.or (i64.load $flags offset=16 (local.get $at)) (i64.load $flags offset=24 (local.get $at)))))
        (then (local.set $page (i32.add (local.get $page) (i32.const 4))))
        (else
          (local.set $end (i32.add (local.get $page) (i32.const 4)))
          (loop $four
            (local.set $word (i64.load $flags (local.tee $at (i32.shl (local.get $page) (i32.const 3)))))
            (if (i64.ne (local.get $word) (i64.const 0))
              (then
                (call $restorePage (local.get $table) (local.get $count) (local.get $page) (local.get $pages) (local.get $word))
                (i64.store $flags (local.get $at) (i64.const 0))
                (local.set $restored (i32.add (local.get $restored) (i32.const 1)))))
            (br_if $four (i32.lt_u (local.tee $page (i32.add (local.get $page) (i32.const 1))) (local.get $end))))))
      (br_if $each (i32.lt_u (local.get $page) (local.get $pages))))
    (local.get $restored))

  ;; Turns a clean memory that equals the image at $fromTable into the one at $toTable: copies where the tables
  ;; differ. Returns how many pages were copied.
  (func (export "reimage") (param $fromTable i32) (param $fromCount i32) (param $toTable i32) (param $toCount i32) (param $pages i32) (result i32)
    (local $page i32) (local $end i32) (local $copied i32)
    (local.set $end (select (local.get $fromCount) (local.get $toCount) (i32.gt_u (local.get $fromCount) (local.get $toCount))))
    (if (i32.gt_u (local.get $end) (local.get $pages)) (then (local.set $end (local.get $pages))))
    (if (i32.eqz (local.get $end)) (then (return (i32.const 0))))
    (loop $each
      (if (i32.ne
            (call $source (local.get $fromTable) (local.get $fromCount) (local.get $page))
            (call $source (local.get $toTable) (local.get $toCount) (local.get $page)))
        (then
          (call $restorePage (local.get $toTable) (local.get $toCount) (local.get $page) (local.get $pages) (i64.const 0x0101010101010101))
          (local.set $copied (i32.add (local.get $copied) (i32.const 1)))))
      (br_if $each (i32.lt_u (local.tee $page (i32.add (local.get $page) (i32.const 1))) (local.get $end))))
    (local.get $copied))

  ;; The same between two images with the same trunk, copying only granules in which one of them differs from it. Behind
  ;; each table lie the images' masks, one byte for each page: bit n says that granule n differs from the trunk's.
  (func (export "switch") (param $fromTable i32) (param $fromCount i32) (param $toTable i32) (param $toCount i32) (param $pages i32) (result i32)
    (local $page i32) (local $end i32) (local $copied i32) (local $word i64)
    (local.set $end (select (local.get $fromCount) (local.get $toCount) (i32.gt_u (local.get $fromCount) (local.get $toCount))))
    (if (i32.gt_u (local.get $end) (local.get $pages)) (then (local.set $end (local.get $pages))))
    (loop $each
      (if (i32.ne
            (call $source (local.get $fromTable) (local.get $fromCount) (local.get $page))
            (call $source (local.get $toTable) (local.get $toCount) (local.get $page)))
        (then
          ;; Bit n of the masks to byte n of a word, then every byte that is not 0 to 1.
          (local.set $word (i64.and (i64.const 0x8040201008040201) (i64.mul (i64.const 0x0101010101010101)
            (i64.extend_i32_u (i32.or
              (call $mask (local.get $fromTable) (local.get $fromCount) (local.get $page))
              (call $mask (local.get $toTable) (local.get $toCount) (local.get $page)))))))
          (local.set $word (i64.and (i64.const 0x0101010101010101)
            (i64.shr_u (i64.add (local.get $word) (i64.const 0x7f7f7f7f7f7f7f7f)) (i64.const 7))))
          (if (i64.ne (local.get $word) (i64.const 0))
            (then (call $restorePage (local.get $toTable) (local.get $toCount) (local.get $page) (local.get $pages) (local.get $word))))
          (local.set $copied (i32.add (local.get $copied) (i32.const 1)))))
      (br_if $each (i32.lt_u (local.tee $page (i32.add (local.get $page) (i32.const 1))) (local.get $end))))
    (local.get $copied))

  (func $mask (param $table i32) (param $count i32) (param $page i32) (result i32)
    (if (result i32) (i32.lt_u (local.get $page) (local.get $count))
      (then (i32.load8_u $arena (i32.add (i32.add (local.get $table) (i32.shl (local.get $count) (i32.const 2))) (local.get $page))))
      (else (i32.const 0))))

  ;; The first page at which memory differs from the image, or a flag is set; -1 if there is none.
  (func (export "verify") (param $table i32) (param $count i32) (param $pages i32) (result i32)
    (local $page i32) (local $from i32) (local $at i32) (local $end i32)
    (loop $each
      (if (i64.ne (i64.load $flags (i32.shl (local.get $page) (i32.const 3))) (i64.const 0)) (then (return (local.get $page))))
      (local.set $from (call $source (local.get $table) (local.get $count) (local.get $page)))
      (local.set $at (i32.shl (local.get $page) (i32.const 12)))
      (local.set $end (i32.add (local.get $at) (i32.const 4096)))
      (if (local.get $from)
        (then
          (loop $words
            (if (i64.ne (i64.load $guest (local.get $at)) (i64.load $arena (local.get $from)))
              (then (return (local.get $page))))
            (local.set $from (i32.add (local.get $from) (i32.const 8)))
            (br_if $words (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (local.get $end)))))
        (else
          (loop $zeros
            (if (i64.ne (i64.load $guest (local.get $at)) (i64.const 0)) (then (return (local.get $page))))
            (br_if $zeros (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (local.get $end))))))
      (br_if $each (i32.lt_u (local.tee $page (i32.add (local.get $page) (i32.const 1))) (local.get $pages))))
    (i32.const -1))

  ;; Writes the first $words 32-bit words of a page in which memory differs from the image to the flags memory at
  ;; 0x800100, as pairs of word address and content. Returns how many pairs; a page has at most 1024.
  (func (export "changes") (param $table i32) (param $count i32) (param $page i32) (param $words i32) (result i32)
    (local $from i32) (local $at i32) (local $end i32) (local $out i32) (local $before i32)
    (local.set $from (call $source (local.get $table) (local.get $count) (local.get $page)))
    (local.set $at (i32.shl (local.get $page) (i32.const 12)))
    (local.set $end (i32.add (local.get $at) (i32.shl (local.get $words) (i32.const 2))))
    (local.set $out (i32.const 0x800100))
    (loop $each
      (local.set $before (i32.const 0))
      (if (local.get $from)
        (then
          (local.set $before (i32.load $arena (local.get $from)))
          (local.set $from (i32.add (local.get $from) (i32.const 4)))))
      (if (i32.ne (i32.load $guest (local.get $at)) (local.get $before))
        (then
          (i32.store $flags (local.get $out) (i32.shr_u (local.get $at) (i32.const 2)))
          (i32.store $flags offset=4 (local.get $out) (i32.load $guest (local.get $at)))
          (local.set $out (i32.add (local.get $out) (i32.const 8)))))
      (br_if $each (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4))) (local.get $end))))
    (i32.shr_u (i32.sub (local.get $out) (i32.const 0x800100)) (i32.const 3))))
