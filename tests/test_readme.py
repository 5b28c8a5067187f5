"""Paths and links in the pages lead somewhere, and the tools take the pages' commands."""
import re
import shlex

import pytest

from mmkd_atsc import cli
from model_converters.convert_teacher import ARCHITECTURES
from tests.conftest import ROOT, run_command, tool

README = (ROOT / 'README.md').read_text()
# docs/adding_a_method.md has a test of its own, which runs its commands.
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md')),
         *sorted(page for folder in ('configs', 'tools') for page in (ROOT / folder).rglob('README.md'))]
every_page = pytest.mark.parametrize('page', PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def commands(page):
    """The lines of a page's bash blocks, as words."""
    for block in re.findall(r'^```bash\n(.*?)^```', page.read_text(), flags=re.M | re.S):
        for line in block.replace('\\\n', ' ').splitlines():
            yield shlex.split(line, comments=True)


# From the tool's name on.
COMMANDS = [words[place:] for page in PAGES if page.parent.name != 'docs' for words in commands(page)
            for place in range(len(words)) if words[place].startswith('tools/') and not any(
                word.startswith('tools/') for word in words[:place])]
LAUNCHES = [words for words in COMMANDS if words[0].endswith(('_train.sh', '_test.sh'))]
CALLS = [words for words in COMMANDS if words[0].endswith('.py')]


@every_page
def test_each_path_and_link_leads_somewhere(page):
    text = page.read_text()
    named = re.findall(r'(?<![\w./:-])((?:configs|tools|tests)/[\w./-]*\w)', text)
    assert [path for path in named if not (ROOT / path).exists()] == []
    for line in re.findall(r'^(?!\|).*custom_hooks = \[.*', text, flags=re.M):
        assert '*_base_' in line, f'{line}: would replace the hooks of the base config'
    titles = re.findall(r'^#+ (.+)$', text, flags=re.M)
    headings = {re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-') for title in titles}
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if target.startswith('#'):
            assert target[1:] in headings, target
        elif not target.startswith('https://'):
            assert (page.parent / target.split('#')[0]).exists(), target


@pytest.mark.parametrize('words', CALLS, ids=' '.join)
def test_a_python_command_is_one_that_its_tool_takes(words, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / 'tools' / 'benchmark'))
    parts = tool(words[0][len('tools/'):])
    if 'parse_args' not in parts:  # its options are checked by its own tests; here that they are spelt so
        with pytest.raises(SystemExit):
            parts['main'](['--help'])
        said = capsys.readouterr().out
        assert all(re.search(rf'{word}\b', said) for word in words if word.startswith('--'))
        return
    args = parts['parse_args'](words[1:])
    if hasattr(args, 'config'):
        assert cli.load_config(str(ROOT / args.config), args.cfg_options if 'cfg_options' in args else {}).model
    if hasattr(args, 'arch'):
        assert args.arch in ARCHITECTURES


@pytest.mark.parametrize('words', LAUNCHES, ids=' '.join)
def test_a_launch_is_one_that_training_or_testing_takes(words):
    script, *words = words
    if 'dist_train' in script:
        config, processes, *rest = words
    elif 'dist_test' in script:
        config, checkpoint, processes, *rest = words
        rest = [checkpoint, *rest]
    else:
        _, _, config, work_dir, *rest = words
        processes, rest = '1', ['--work-dir', work_dir, *rest]
    assert processes.isdigit() and cli.load_config(str(ROOT / config)).model
    tool('test.py' if 'test' in script else 'train.py')['parse_args']([config, *rest])


def test_the_explained_config_is_the_one_in_the_repository():
    page, = re.findall(r'^## A config, explained\n(.*?)^## ', README, flags=re.M | re.S)
    code = ''.join((ROOT / path).read_text() for path in set(re.findall(r'\((configs/[\w/]+\.py)\)', page)))
    explained = [code for row in re.findall(r'^\| (`.*?`) \|', page, flags=re.M) for code in re.findall('`(.*?)`', row)]
    assert len(explained) >= 8
    for part in explained:
        assert re.sub(r'\s', '', part) in re.sub(r'\s', '', code), part


@pytest.mark.parametrize('script', sorted(path.name for path in (ROOT / 'tools').glob('*.sh')))
def test_a_script_is_valid_and_executable_and_says_how_it_is_used(script):
    path = ROOT / 'tools' / script
    assert run_command('bash', '-n', path).returncode == 0 and path.stat().st_mode & 0o111
    if script in ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh'):
        done = run_command('bash', path)
        assert done.returncode == 2 and done.stderr.startswith(f'usage: {path} ') and done.stderr.count('\n') == 1
