"""Small texts in the layouts of the real ones, and what they hold."""

import hashlib
import textwrap
import zipfile

from fedjax_sim.data.sets import moby
from fedjax_sim.data.sets.plays import Role

# Poems, a play with indented names, a play with names at the margin.
POSTING = textwrap.dedent("""\
    <<THIS VERSION IS A STAND-IN.
    COMMERCIALLY.  NOT AT ALL.>>

    THE SONNETS

    by William Shakespeare

                         1
      From morning bright. The first line,
      Nobody speaks. This is a poem.

    THE END

    1603

    THE TRAGEDY OF SMALL

    by William Shakespeare

    Dramatis Personae

      KING SMALL
      A Clown

    ACT I. SCENE 1.
    A hall

    Enter KING and CLOWN

      KING SMALL. Good morrow.
        It is a day; a fine one. So
          it seems.                              Exit
      Clown. Ay.
        No.

    ACT II. SCENE 1.

      KING SMALL. Again. And again.
                                                  Exeunt
    THE END

    1592

    THE COMEDY OF MARGINS

    by William Shakespeare

    NOTICES.  A NOTICE
    of two lines

    ACT I. SCENE 1

    FIRST LORD. Proceed. I pray,
      go on.

    Enter a LADY

      Here she comes.
    <Exit
      Nobody says this.
    LADY. I go.
    THE END
    """)

ROLES = [
    Role('THE TRAGEDY OF SMALL', 'KING SMALL', [
        'Good morrow.', 'It is a day; a fine one. So',
        '  it seems.                              Exit', 'Again. And again.',
        ' ' * 42 + 'Exeunt']),
    Role('THE TRAGEDY OF SMALL', 'Clown', ['Ay.', 'No.']),
    Role('THE COMEDY OF MARGINS', 'NOTICES', [
        ' A NOTICE', 'of two lines', '']),
    Role('THE COMEDY OF MARGINS', 'FIRST LORD', [
        'Proceed. I pray,', '  go on.', '', 'Enter a LADY', '',
        '  Here she comes.']),
    Role('THE COMEDY OF MARGINS', 'LADY', ['I go.', 'THE END', '']),
]

MARKDOWN = {
    'the-tempest': textwrap.dedent("""\
        # The Small Tempest

        ## ACT I

        _Enter ANNE, with BEN_

        **ANNE**
        Now, fair Ben,
        \\--well. _To him_ Go. '\\--No.'

        _Exit BEN,
        with a
        lantern_

        Alone at last.

        ### SCENE II. A hall.
        Nobody says this.

        **BEN**
        __\\[Awaking]_
        What?

        _Burthen _\\[dispersedly, within_

        Who?

        **ANNE**
        [Aside]_
        1\\. He wakes.
        """).replace('\n', '  \n'),
    'a-play': '# A Play\n\n**ANNE**  \nYes.\n',
    'edward-iii': '# Edward III\n\n**EDWARD**  \nNo.\n',
}

SPOKEN = [
    Role('a-play', 'ANNE', ['Yes.']),
    Role('the-tempest', 'ANNE', [
        'Now, fair Ben,', "--well.  Go. '--No.'", 'Alone at last.',
        '1. He wakes.']),
    Role('the-tempest', 'BEN', ['What?', 'Who?']),
]


def write_wheel(folder, monkeypatch):
  """Writes a wheel that holds MARKDOWN, and makes it the right one."""
  plays = {title: text for title, text in MARKDOWN.items()
           if title != 'edward-iii'}
  joined = ''.join(plays[title] for title in sorted(plays))
  monkeypatch.setattr(
      moby, 'SHA256', hashlib.sha256(joined.encode()).hexdigest())
  info = f'{moby.PACKAGE}-{moby.VERSION}.dist-info'
  path = folder / moby.WHEEL
  with zipfile.ZipFile(path, 'w') as wheel:
    for title, text in MARKDOWN.items():
      wheel.writestr(f'{moby.PACKAGE}/plays/comedies/{title}.md', text)
    wheel.writestr('README.md', 'not a play')
    wheel.writestr(f'{info}/METADATA',
                   f'Metadata-Version: 2.1\nName: {moby.PACKAGE}\n'
                   f'Version: {moby.VERSION}\n'
                   'Requires-Dist: a-package-that-is-not-there\n')
    wheel.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\nGenerator: test\n'
                   'Root-Is-Purelib: true\nTag: py3-none-any\n')
    wheel.writestr(f'{info}/RECORD', '')
  return path
