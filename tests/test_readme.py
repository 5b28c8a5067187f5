"""Paths and links in the pages lead somewhere, and the tools take the pages' commands."""
import ast
import re

import pytest

from analysis.api import page_text
from mmkd_atsc import cli
from model_converters.convert_teacher import ARCHITECTURES
from tests.conftest import ROOT, page_commands, page_files, run_command, tool

README = (ROOT / 'README.md').read_text()
FLAGSHIP = ROOT / 'configs' / 'atsc' / 'resnet110_resnet32_cifar100.py'
DOCS = sorted((ROOT / 'docs').glob('*.md'))
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *DOCS,
         *sorted(page for folder in ('configs', 'tools') for page in (ROOT / folder).rglob('README.md'))]
every_page = pytest.mark.parametrize('page', PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
# Their commands run in test_third_method.py and test_your_data.py.
RUN = ('adding_a_method.md', 'your_data.md')
# What a line without a tool of ours may begin with.
OTHERS = ('. .venv/bin/activate', 'pip', 'pre-commit install', 'python -m mmkd_atsc', 'python -m pytest', 'ruff check',
          'python tests/faults/run.py --kills', 'for', 'done')

LINES = [words for page in PAGES if page.name not in RUN for words in page_commands(page.read_text()) if words]
# From the tool's name on.
COMMANDS = [words[place:] for words in LINES for place in range(len(words)) if words[place].startswith('tools/')
            and not any(word.startswith('tools/') for word in words[:place])]
LAUNCHES = [words for words in COMMANDS if words[0].endswith(('_train.sh', '_test.sh'))]
CALLS = [words for words in COMMANDS if words[0].endswith('.py')]


def load_config(path, options=None):
    """A config of the repository; README's own is one of them."""
    return cli.load_config(str(FLAGSHIP if path == 'my_atsc.py' else ROOT / path), options or {})


def anchors(page):
    titles = re.findall(r'^#+ (.+)$', page.read_text(), flags=re.M)
    return {re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-') for title in titles}


@every_page
def test_each_path_and_link_leads_somewhere(page):
    text = page.read_text()
    named = re.findall(r'(?<![\w./:-])((?:configs|tools|tests)/[\w./-]*\w)', text)
    assert [path for path in named if not (ROOT / path).exists()] == []
    for line in re.findall(r'^(?!\|).*custom_hooks = \[.*', text, flags=re.M):
        assert '*_base_' in line, f'{line}: would replace the hooks of the base config'
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        path, _, heading = target.partition('#')
        if not target.startswith('https://'):
            linked = page.parent / path if path else page
            assert linked.exists() and (not heading or heading in anchors(linked)), target


@every_page
def test_each_block_of_python_is_python(page):
    for block in re.findall(r'^```python\n(.*?)^```', page.read_text(), flags=re.M | re.S):
        ast.parse(block)


def test_each_command_is_of_a_tool_or_well_known():
    lines = [' '.join(words) for words in LINES if not any(word.startswith('tools/') for word in words)]
    assert len(lines) > 10 and [line for line in lines if not line.startswith(OTHERS)] == []


def test_readme_is_short_and_its_config_is_the_flagship(tmp_path):
    assert len(README.splitlines()) <= 150
    (tmp_path / 'my_atsc.py').write_text(page_files(README)['my_atsc.py'])
    own, flagship = [cli.load_config(str(path), {}).to_dict() for path in (tmp_path / 'my_atsc.py', FLAGSHIP)]
    assert own == flagship


def test_the_index_has_each_page_and_the_list_of_types_is_the_codes():
    index = (ROOT / 'docs' / 'README.md').read_text()
    assert [page.name for page in DOCS if f']({page.name})' not in index and page.name != 'README.md'] == []
    assert (ROOT / 'docs' / 'api.md').read_text() == page_text(ROOT / 'docs' / 'api.md')


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
        assert load_config(args.config, args.cfg_options if 'cfg_options' in args else {}).model
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
    assert processes.isdigit() and load_config(config).model
    tool('test.py' if 'test' in script else 'train.py')['parse_args']([config, *rest])


def test_the_explained_config_is_the_one_in_the_repository():
    text = (ROOT / 'docs' / 'concepts.md').read_text()
    page, = re.findall(r'^## A config, explained\n(.*)', text, flags=re.M | re.S)
    code = ''.join((ROOT / path).read_text() for path in set(re.findall(r'\(\.\./(configs/[\w/]+\.py)\)', page)))
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
