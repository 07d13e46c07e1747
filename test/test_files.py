import pytest

from cliptrase_ros import files


def test_what_is_written_takes_the_place_at_the_end(tmp_path):
    path = tmp_path / 'new' / 'a.png'
    with files.whole(path) as part:
        part.write_text('one')
        assert part.suffix == '.png' and part.parent == path.parent and not path.exists()
    assert path.read_text() == 'one'
    with files.whole(path) as part:
        part.write_text('two')
        assert path.read_text() == 'one'
    assert path.read_text() == 'two' and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize('error', [OSError, KeyboardInterrupt])
def test_after_an_error_all_is_as_before(tmp_path, error):
    path = tmp_path / 'a.txt'
    path.write_text('old')
    with pytest.raises(error), files.whole(path) as part:
        part.write_text('half')
        raise error
    assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]


def test_folders_are_replaced_as_a_whole(tmp_path):
    path = tmp_path / 'bag'
    for name in ('one', 'two'):
        with files.whole(path) as part:
            part.mkdir()
            (part / name).write_text('')
    assert [p.name for p in path.iterdir()] == ['two'] and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError), files.whole(path) as part:
        part.mkdir()
        raise OSError
    assert [p.name for p in path.iterdir()] == ['two'] and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('at', ['old', 'part'])
def test_an_interrupt_while_folders_change_places(tmp_path, monkeypatch, at):
    path = tmp_path / 'bag'
    with files.whole(path) as part:
        part.mkdir()
        (part / 'one').write_text('')
    rename = type(path).rename

    def interrupted(self, target):
        if at == 'old' or 'part' in self.name:
            monkeypatch.undo()
            raise KeyboardInterrupt
        return rename(self, target)

    with pytest.raises(KeyboardInterrupt), files.whole(path) as part:
        part.mkdir()
        (part / 'two').write_text('')
        monkeypatch.setattr(type(path), 'rename', interrupted)
    assert [p.name for p in path.iterdir()] == ['one'] and list(tmp_path.iterdir()) == [path]


def test_an_interrupt_while_the_old_folder_goes_costs_no_new_one(tmp_path, monkeypatch):
    path = tmp_path / 'bag'
    with files.whole(path) as part:
        part.mkdir()
    with pytest.raises(KeyboardInterrupt), files.whole(path) as part:
        part.mkdir()
        (part / 'new').write_text('')

        def interrupted(folder):
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(files.shutil, 'rmtree', interrupted)
    assert [p.name for p in path.iterdir()] == ['new']


def test_what_a_killed_process_left_is_no_hindrance(tmp_path):
    with files.whole(tmp_path / 'a') as part:
        pass_on = part
        part.write_text('')
    pass_on.mkdir()
    (pass_on / 'left').write_text('')
    with files.whole(tmp_path / 'a') as part:
        assert not part.exists()
        part.write_text('new')
    assert (tmp_path / 'a').read_text() == 'new' and not pass_on.exists()


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path):
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'folder')
    files.remove(tmp_path / 'link')
    files.remove(tmp_path / 'nothing')
    assert [p.name for p in tmp_path.iterdir()] == ['folder']
