"""Loops and copies in listings of machine code."""

from tools import sass

LISTING = """
arch = sm_90
\t\tFunction : two_loops
        /*0000*/                   S2R R1, SR_TID.X ;
        /*0010*/              @!P0 BRA 0x80 ;
        /*0018*/                   MOV R2, c[0x0][0x160] ;
        /*0020*/                   LDGSTS.E.BYPASS.128 [R1], [R2.64] ;
        /*0030*/                   BRA.U UP1, 0x20 ;
        /*0040*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*0050*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0060*/              @!P2 CALL.REL.NOINC 0x90 ;
        /*0070*/               @P0 BRA 0x18 ;
        /*0080*/                   EXIT ;
        /*0090*/                   LDGSTS.E.64.ZFILL [R1], [R2.64], P3 ;
        /*00a0*/                   BRA 0x70 ;
        /*00b0*/                   BRA 0xb0 ;
\t\tFunction : straight
        /*0000*/                   HMMA.16816.F32 R4, R8, R12, R4 ;
        /*0010*/                   EXIT ;
"""


def test_kernels_are_told_apart() -> None:
    found = [(chip, kernel, len(code)) for chip, kernel, code in sass.kernels_of(LISTING)]
    assert found == [("sm_90", "two_loops", 13), ("sm_90", "straight", 2)]


def test_a_loop_has_what_was_put_behind_the_kernel_but_nothing_before_it() -> None:
    (_, _, code), (_, _, straight) = sass.kernels_of(LISTING)
    inner, outer = sorted(sass.loops(code), key=len)
    assert [item.address for item in inner] == [0x20, 0x30]
    assert [item.address for item in outer] == [0x18, *range(0x20, 0x80, 0x10), 0x90, 0xA0]
    assert sass.main_loop(code, [inner, outer], "HMMA") == outer
    assert sass.main_loop(straight, sass.loops(straight), "HMMA") == straight
    assert sass.count(outer, "BAR") == 1


def test_copies_are_counted_by_width() -> None:
    (_, _, code), _ = sass.kernels_of(LISTING)
    assert sass.widths(code) == {16: 1, 8: 1}
