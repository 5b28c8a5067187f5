"""What the READMEs name is there, and their commands are ones that the tools take."""
import importlib.util
import re
import shlex

import pytest

from mmkd_atsc import cli
from model_converters.convert_teacher import ARCHITECTURES
from tests.conftest import ROOT, run_command

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'configs').rglob('README.md'))]
PAGE_NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
every_page = pytest.mark.parametrize('page', PAGES, ids=PAGE_NAMES)


def commands(page):
    """The lines of a page's bash blocks, as words."""
    for block in re.findall(r'^```bash\n(.*?)^```', page.read_text(), flags=re.M | re.S):
        for line in block.replace('\\\n', ' ').splitlines():
            if line.strip() and not line.startswith('#'):
                yield shlex.split(line, comments=True)


def python_commands(page, tool):
    found = [words[words.index(tool) + 1:] for words in commands(page) if tool in words]
    assert found or page != PAGES[0], f'README.md shows no use of {tool}'
    return found


def load(tool):
    spec = importlib.util.spec_from_file_location(tool.replace('/', '_')[:-3], ROOT / tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@every_page
def test_each_path_it_names_is_there(page):
    named = re.findall(r'(?<![\w./:-])((?:configs|tools|tests)/[\w./-]*\w)', page.read_text())
    missing = sorted({path for path in named if not (ROOT / path).exists()})
    assert not missing, missing


@every_page
def test_each_link_leads_somewhere(page):
    text = page.read_text()
    titles = re.findall(r'^#+ (.+)$', text, flags=re.M)
    headings = {re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-') for title in titles}
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if target.startswith('#'):
            assert target[1:] in headings, target
        elif not target.startswith('https://'):
            assert (page.parent / target.split('#')[0]).exists(), target


@every_page
@pytest.mark.parametrize('tool', ['tools/train.py', 'tools/test.py', 'tools/export_student.py',
                                  'tools/model_converters/convert_teacher.py'])
def test_each_python_command_is_one_that_its_tool_takes(page, tool):
    parse = load(tool).parse_args
    for words in python_commands(page, tool):
        args = parse(words)
        if hasattr(args, 'config'):
            cli.load_config(str(ROOT / args.config), args.cfg_options)
        else:
            assert args.arch in ARCHITECTURES


@every_page
@pytest.mark.parametrize('tool, to_config', [('tools/dist_train.sh', 0), ('tools/dist_test.sh', 0),
                                             ('tools/slurm_train.sh', 2)])
def test_each_launch_is_one_that_training_or_testing_takes(page, tool, to_config):
    for words in python_commands(page, tool):
        config, rest = words[to_config], words[to_config + 1:]
        if tool == 'tools/dist_train.sh':
            processes, *rest = rest
        elif tool == 'tools/dist_test.sh':
            checkpoint, processes, *rest = rest
            rest = [checkpoint, *rest]
        else:
            processes, rest = '1', ['--work-dir', *rest]
        assert processes.isdigit() and cli.load_config(str(ROOT / config)).model
        load('tools/test.py' if 'test' in tool else 'tools/train.py').parse_args([config, *rest])


def test_each_variable_it_names_is_read_somewhere():
    code = ''.join(path.read_text() for folder in ('mmkd_atsc', 'tools', 'configs')
                   for path in (ROOT / folder).rglob('*') if path.suffix in ('.py', '.sh'))
    for variable in ('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT', 'MMKD_DATA_ROOT', 'MMKD_TRACEBACK', 'PYTHON', 'GPUS',
                     'DEMO_TEACHER'):
        assert variable in PAGES[0].read_text() and variable in code, variable


def test_the_explained_config_is_the_one_in_the_repository():
    page, = re.findall(r'^## A config, explained\n(.*?)^## ', PAGES[0].read_text(), flags=re.M | re.S)
    path, = set(re.findall(r'\((configs/demo/\w+\.py)\)', page))
    config = re.sub(r'\s', '', (ROOT / path).read_text())
    explained = [code for row in re.findall(r'^\| (`.*?`) \|', page, flags=re.M) for code in re.findall('`(.*?)`', row)]
    assert len(explained) >= 10
    for code in explained:
        start = code.replace(' ', '').split('...')[0]  # a long path is cut short
        assert start in config, code


@pytest.mark.parametrize('script', ['tools/dist_train.sh', 'tools/dist_test.sh', 'tools/slurm_train.sh'])
def test_a_script_without_arguments_says_how_it_is_used(script):
    done = run_command('bash', ROOT / script)
    assert done.returncode == 2 and done.stderr.startswith(f'usage: {ROOT / script} ') and done.stderr.count('\n') == 1


@pytest.mark.parametrize('script', sorted(path.name for path in (ROOT / 'tools').glob('*.sh')))
def test_a_script_is_valid_and_executable(script):
    path = ROOT / 'tools' / script
    assert run_command('bash', '-n', path).returncode == 0 and path.stat().st_mode & 0o111
